/* Convolutions of 3x3 with stride 1 and a border of zeros, and the gradients of their weights.
 *
 * Every number is made by the same operations in the same order with any number of threads, and
 * whatever else is in the batch.
 */

#include "winograd.h"

enum { TILES = 8 * ROWS, CHUNK = 2 * STRIP, BLOCK = 64, MANY = 192 };

/* m (36, tiles, wide) = or += v (36, tiles, C) u (36, strips, C, STRIP). */
static void multiply(int64_t tiles, int64_t channels, int64_t strips, const float *v,
                     int64_t v_apart, int64_t v_row, const float *u, int64_t u_apart,
                     int64_t u_strip, float *m, int64_t m_apart, int64_t m_row, int add) {
    for (int p = 0; p < POINTS; p++)
        for (int64_t j = 0; j < strips; j++) {
            const float *a = v + p * v_apart, *b = u + p * u_apart + j * u_strip;
            float *c = m + p * m_apart + j * STRIP;
            for (int64_t left = tiles, rows; left > 0; left -= rows) {
                rows = rows_of_tile(left);
                any_tile((int)rows, channels, a, v_row, 1, b, STRIP, c, m_row, add);
                a += rows * v_row, c += rows * m_row;
            }
        }
}

/* Whether all weights are transformed first and a thread takes tiles; else all tiles are, and a
 * thread takes channels of the result. It is what needs less room. */
static int by_tiles(const Conv *s) { return tiles_of(s) >= s->outputs; }

/* Where things are in the room that a convolution is given, in numbers. */
typedef struct {
    int64_t zeros, strips, u_strip, u_apart, u, v_row, v_apart, v_block, v, m_row, m_apart, m;
} Plan;

static Plan plan_of(const Conv *s) {
    Plan p = {0};
    int64_t many = by_tiles(s), tiles = many ? TILES : tiles_of(s);
    p.zeros = pitch(s->channels);
    p.strips = many ? round_up(s->outputs, STRIP) / STRIP : CHUNK / STRIP;
    p.u_strip = (many ? s->channels : BLOCK) * STRIP;
    p.u_apart = p.strips * p.u_strip + GAP;
    p.u = POINTS * p.u_apart;
    p.v_row = many ? pitch(s->channels) : BLOCK;
    p.v_apart = tiles * p.v_row + GAP;
    p.v_block = POINTS * p.v_apart;
    p.v = p.v_block * (many ? 1 : round_up(s->channels, BLOCK) / BLOCK);
    p.m_row = p.strips * STRIP + (many ? GAP : 0);
    p.m_apart = tiles * p.m_row + GAP;
    p.m = POINTS * p.m_apart;
    return p;
}

/* How many numbers of room a convolution needs. */
int64_t winograd_room(const Conv *s, int threads) {
    Plan p = plan_of(s);
    if (by_tiles(s)) return p.zeros + p.u + threads * (p.v + p.m);
    return p.zeros + p.v + threads * (p.u + p.m);
}

static void convolve_by_tiles(const Conv *s, const Plan *p, const float *x, const float *w,
                              const float *bias, float *y, float *room, int threads) {
    int64_t tiles = tiles_of(s), c = s->channels;
    float *u = room + p->zeros;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < p->strips; j++)
        transform_weights(s, w, j * STRIP, 0, c, u + j * p->u_strip, p->u_apart);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t first = 0; first < tiles; first += TILES) {
        float *v = u + p->u + omp_get_thread_num() * (p->v + p->m), *m = v + p->v;
        const float *at[POINTS];
        int64_t n = least(TILES, tiles - first);
        for (int64_t t = 0; t < n; t++) {
            input_of(s, x, room, first + t, at);
            transform_input(at, 0, c, v + t * p->v_row, p->v_apart);
        }
        multiply(n, c, p->strips, v, p->v_apart, p->v_row, u, p->u_apart, p->u_strip, m,
                 p->m_apart, p->m_row, 0);
        for (int64_t t = 0; t < n; t++)
            transform_output(s, m + t * p->m_row, p->m_apart, first + t, 0, s->outputs, bias, y);
    }
}

static void convolve_by_channels(const Conv *s, const Plan *p, const float *x, const float *w,
                                 const float *bias, float *y, float *room, int threads) {
    int64_t tiles = tiles_of(s), channels = s->channels;
    float *all_v = room + p->zeros;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < tiles; t++) {
        const float *at[POINTS];
        input_of(s, x, room, t, at);
        float *v = all_v + t * p->v_row;
        for (int64_t c = 0; c < channels; c += BLOCK, v += p->v_block)
            transform_input(at, c, least(c + BLOCK, channels), v, p->v_apart);
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t first = 0; first < s->outputs; first += CHUNK) {
        float *u = all_v + p->v + omp_get_thread_num() * (p->u + p->m), *m = u + p->u;
        const float *v = all_v;
        int64_t last = least(first + CHUNK, s->outputs);
        int64_t strips = round_up(last - first, STRIP) / STRIP;
        for (int64_t c = 0; c < channels; c += BLOCK, v += p->v_block) {
            int64_t end = least(c + BLOCK, channels);
            for (int64_t j = 0; j < strips; j++)
                transform_weights(s, w, first + j * STRIP, c, end, u + j * p->u_strip, p->u_apart);
            multiply(tiles, end - c, strips, v, p->v_apart, p->v_row, u, p->u_apart, p->u_strip, m,
                     p->m_apart, p->m_row, c > 0);
        }
        for (int64_t t = 0; t < tiles; t++)
            transform_output(s, m + t * p->m_row, p->m_apart, t, first, last, bias, y);
    }
}

/* y (N, H, W, K) = x (N, H, W, C) * w + bias (K) or NULL. C and K are multiples of LANES. */
void winograd(const Conv *s, const float *x, const float *w, const float *bias, float *y,
              float *room, int threads) {
    Plan p = plan_of(s);
    memset(room, 0, sizeof(float) * p.zeros);
    if (by_tiles(s)) convolve_by_tiles(s, &p, x, w, bias, y, room, threads);
    else convolve_by_channels(s, &p, x, w, bias, y, room, threads);
}

/* How many numbers of room the gradient of the weights needs. */
int64_t winograd_weights_room(const Conv *s) {
    int64_t wide = round_up(s->outputs, STRIP), rows = pitch(s->channels) + wide + GAP;
    return pitch(s->channels) + POINTS * (MANY * rows + 2 * GAP + s->channels * wide);
}

/* dw (K, C, 3, 3) of dy (N, H, W, K) and x (N, H, W, C), whose scale is 1. */
void winograd_weights(const Conv *s, const float *x, const float *dy, float *dw, float *room,
                      int threads) {
    int64_t tiles = tiles_of(s), channels = s->channels, wide = round_up(s->outputs, STRIP);
    int64_t v_row = pitch(channels), v_apart = MANY * v_row + GAP;
    int64_t m_row = wide + GAP, m_apart = MANY * m_row + GAP;
    float *v = room + pitch(channels), *m = v + POINTS * v_apart, *du = m + POINTS * m_apart;
    memset(room, 0, sizeof(float) * pitch(channels));
    memset(m, 0, sizeof(float) * POINTS * m_apart);
    for (int64_t first = 0; first < tiles; first += MANY) {
        int64_t n = least(MANY, tiles - first);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t t = 0; t < n; t++) {
            const float *at[POINTS];
            input_of(s, x, room, first + t, at);
            transform_input(at, 0, channels, v + t * v_row, v_apart);
            transform_gradient(s, dy, first + t, m + t * m_row, m_apart);
        }
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int p = 0; p < POINTS; p++)
            for (int64_t j = 0; j < wide; j += STRIP)
                for (int64_t c = 0, rows; c < channels; c += rows) {
                    rows = rows_of_tile(channels - c);
                    any_tile((int)rows, n, v + p * v_apart + c, 1, v_row, m + p * m_apart + j,
                             m_row, du + (p * channels + c) * wide + j, wide, first > 0);
                }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < channels; c++)
        for (int64_t k = 0; k < s->outputs; k += LANES) {
            floats half[SIDE][3];
            for (int i = 0; i < SIDE; i++) {
                floats u[SIDE];
                for (int j = 0; j < SIDE; j++)
                    u[j] = load(du + ((i * SIDE + j) * channels + c) * wide + k);
                weights_of(u, half[i]);
            }
            for (int j = 0; j < 3; j++) {
                floats u[SIDE], g[3];
                for (int i = 0; i < SIDE; i++) u[i] = half[i][j];
                weights_of(u, g);
                for (int i = 0; i < 3; i++)
                    for (int l = 0; l < LANES; l++)
                        dw[((k + l) * channels + c) * 9 + i * 3 + j] = g[i][l];
            }
        }
}
int lanes(void) { return LANES; }
