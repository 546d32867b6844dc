/* The parts of Winograd's F(4x4, 3x3) (Lavin & Gray 2016): a tile of 4x4 results is 36 products
 * instead of 144. Points 0, ±5/8, ±3/2 and infinity, whose rounding is half that of the usual
 * 0, ±1, ±2. Pictures lie as (N, H, W, C).
 *
 * N pictures, C channels, K channels of the result, T tiles of all pictures.
 */

#pragma once

#include "lanes.h"

#if !defined(__AVX512F__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TURN __builtin_shufflevector
#endif
#endif

enum { SIDE = 6, OUT = 4, POINTS = SIDE * SIDE, GAP = 16 };

#define A 0.625f
#define B 1.5f
#define P (A * A)
#define Q (B * B)
#define NEAR (1.0f / (2.0f * P * (P - Q)))
#define FAR (1.0f / (2.0f * Q * (Q - P)))

typedef struct {
    int64_t batch, height, width; /* of the result */
    int64_t channels, outputs;
    int64_t scale;                /* 2: x has half the height and width, each pixel is four */
    int64_t out, in;              /* strides of the weights' channels K and C */
    int64_t turned;               /* 1: the 3x3 weights are read from their end */
} Conv;

static int64_t across(const Conv *s) { return (s->width + OUT - 1) / OUT; }
static int64_t down(const Conv *s) { return (s->height + OUT - 1) / OUT; }
static int64_t tiles_of(const Conv *s) { return s->batch * across(s) * down(s); }

/* Room for a row of C numbers; rows and points must not share lines of the cache. */
static int64_t pitch(int64_t n) { return round_up(n, STRIP) + GAP; }

/* Bᵀd: a tile's row or column at the six points. */
static inline void points_of(const floats d[SIDE], floats v[SIDE]) {
    floats even = d[4] - Q * d[2], odd = A * (d[3] - Q * d[1]);
    v[0] = d[4] - (P + Q) * d[2] + P * Q * d[0];
    v[1] = even + odd;
    v[2] = even - odd;
    even = d[4] - P * d[2], odd = B * (d[3] - P * d[1]);
    v[3] = even + odd;
    v[4] = even - odd;
    v[5] = d[5] - (P + Q) * d[3] + P * Q * d[1];
}

/* Aᵀm: four results of six points. */
static inline void results_of(const floats m[SIDE], floats y[OUT]) {
    floats near = m[1] + m[2], far = m[3] + m[4], a = A * (m[1] - m[2]), b = B * (m[3] - m[4]);
    y[0] = m[0] + near + far;
    y[1] = a + b;
    y[2] = P * near + Q * far;
    y[3] = P * a + Q * b + m[5];
}

/* A dy: the points of four gradients. */
static inline void points_of_gradients(const floats y[OUT], floats m[SIDE]) {
    floats even = y[0] + P * y[2], odd = A * (y[1] + P * y[3]);
    m[0] = y[0];
    m[1] = even + odd;
    m[2] = even - odd;
    even = y[0] + Q * y[2], odd = B * (y[1] + Q * y[3]);
    m[3] = even + odd;
    m[4] = even - odd;
    m[5] = y[3];
}

/* G g: three weights at the six points. */
static inline void points_of_weights(const floats g[3], floats u[SIDE]) {
    floats even = NEAR * (g[0] + P * g[2]), odd = (NEAR * A) * g[1];
    u[0] = g[0] * (1.0f / (P * Q));
    u[1] = even + odd;
    u[2] = even - odd;
    even = FAR * (g[0] + Q * g[2]), odd = (FAR * B) * g[1];
    u[3] = even + odd;
    u[4] = even - odd;
    u[5] = g[2];
}

/* Gᵀu: three gradients of six points. */
static inline void weights_of(const floats u[SIDE], floats g[3]) {
    floats near = NEAR * (u[1] + u[2]), far = FAR * (u[3] + u[4]);
    g[0] = u[0] * (1.0f / (P * Q)) + near + far;
    g[1] = (NEAR * A) * (u[1] - u[2]) + (FAR * B) * (u[3] - u[4]);
    g[2] = P * near + Q * far + u[5];
}

/* Where the pixels of a tile's input are; outside the picture there are zeros. */
static void input_of(const Conv *s, const float *x, const float *zeros, int64_t t,
                     const float *at[POINTS]) {
    int64_t n = t / (across(s) * down(s)), left = t % across(s) * OUT - 1;
    int64_t top = t / across(s) % down(s) * OUT - 1, h = s->height / s->scale;
    int64_t w = s->width / s->scale;
    for (int64_t i = 0; i < SIDE; i++)
        for (int64_t j = 0; j < SIDE; j++) {
            int64_t row = top + i, column = left + j;
            int inside = row >= 0 && row < s->height && column >= 0 && column < s->width;
            row /= s->scale, column /= s->scale;
            at[i * SIDE + j] = inside ? x + ((n * h + row) * w + column) * s->channels : zeros;
        }
}

/* A tile's channels `first` to `last` at the 36 points, which are `apart` numbers apart. */
static void transform_input(const float *const at[POINTS], int64_t first, int64_t last, float *v,
                            int64_t apart) {
    for (int64_t c = first; c < last; c += LANES) {
        floats half[SIDE][SIDE];
        for (int i = 0; i < SIDE; i++) {
            floats d[SIDE];
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) d[j] = load(at[i * SIDE + j] + c);
            points_of(d, half[i]);
        }
        for (int j = 0; j < SIDE; j++) {
            floats d[SIDE], u[SIDE];
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) d[i] = half[i][j];
            points_of(d, u);
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) store(v + (i * SIDE + j) * apart + c - first, u[i]);
        }
    }
}

/* to (8, LANES) = the transpose of eight numbers of each of `rows` rows. */
static inline void turn(const float *from, int64_t apart, int64_t rows, float *to) {
#if defined(TURN)
    if (rows >= 8) {
        floats r[8], t[8];
        for (int i = 0; i < 8; i++) r[i] = load(from + i * apart);
        for (int i = 0; i < 4; i++) {
            t[2 * i] = TURN(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
            t[2 * i + 1] = TURN(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; i += 4)
            for (int j = 0; j < 2; j++) {
                r[i + 2 * j] = TURN(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
                r[i + 2 * j + 1] = TURN(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
            }
        for (int i = 0; i < 4; i++) {
            store(to + i * STRIP, TURN(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
            store(to + (i + 4) * STRIP, TURN(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
        }
        return;
    }
#endif
    for (int64_t l = 0; l < least(rows, LANES); l++)
        for (int i = 0; i < 8; i++) to[i * STRIP + l] = from[l * apart + i];
}

/* The weights of a strip of K and of eight C: (8, 9, STRIP). */
static void weights_at(const Conv *s, const float *w, int64_t k, int64_t c, float *g) {
    int64_t lanes = least(STRIP, s->outputs - k);
    if (s->in == 9 && !s->turned)
        for (int64_t l = 0; l < lanes; l += LANES)
            for (int64_t i = 0; i < 9; i++)
                turn(w + (k + l) * s->out + c * 9 + 8 * i, s->out, lanes - l,
                     g + 8 * i * STRIP + l);
    else
        for (int64_t i = 0; i < 8; i++, g += 9 * STRIP)
            for (int64_t l = 0; l < lanes; l++) {
                const float *from = w + (k + l) * s->out + (c + i) * s->in;
                for (int j = 0; j < 9; j++) g[(s->turned ? 8 - j : j) * STRIP + l] = from[j];
            }
}

/* A strip of K at the 36 points, channels `first` to `last`: (36, C, STRIP). */
static void transform_weights(const Conv *s, const float *w, int64_t k, int64_t first, int64_t last,
                              float *u, int64_t apart) {
    float eight[8][9][STRIP];
    memset(eight, 0, sizeof eight);
    for (int64_t c = first; c < last; c++) {
        float(*g)[STRIP] = eight[(c - first) % 8];
        if ((c - first) % 8 == 0) weights_at(s, w, k, c, eight[0][0]);
        for (int part = 0; part < STRIP; part += LANES) {
            floats half[SIDE][3];
            for (int j = 0; j < 3; j++) {
                floats column[3], turned[SIDE];
                for (int i = 0; i < 3; i++) column[i] = load(g[3 * i + j] + part);
                points_of_weights(column, turned);
                for (int i = 0; i < SIDE; i++) half[i][j] = turned[i];
            }
            for (int i = 0; i < SIDE; i++) {
                floats row[SIDE];
                points_of_weights(half[i], row);
                for (int j = 0; j < SIDE; j++)
                    store(u + (i * SIDE + j) * apart + (c - first) * STRIP + part, row[j]);
            }
        }
    }
}

/* y of one tile, channels `first` to `last`, from m at the 36 points, which holds `first` on. */
static void transform_output(const Conv *s, const float *m, int64_t apart, int64_t t, int64_t first,
                             int64_t last, const float *bias, float *y) {
    int64_t n = t / (across(s) * down(s)), left = t % across(s) * OUT;
    int64_t top = t / across(s) % down(s) * OUT;
    int64_t rows = least(OUT, s->height - top), columns = least(OUT, s->width - left);
    y += ((n * s->height + top) * s->width + left) * s->outputs;
    for (int64_t k = first; k < last; k += LANES) {
        floats half[SIDE][OUT], add = bias ? load(bias + k) : all(0.0f);
        for (int i = 0; i < SIDE; i++) {
            floats d[SIDE];
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) d[j] = load(m + (i * SIDE + j) * apart + k - first);
            results_of(d, half[i]);
        }
        for (int j = 0; j < columns; j++) {
            floats d[SIDE], z[OUT];
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) d[i] = half[i][j];
            results_of(d, z);
            for (int i = 0; i < rows; i++) store(y + (i * s->width + j) * s->outputs + k, z[i] + add);
        }
    }
}

/* A tile's gradients dy, K channels, at the 36 points; outside the picture they are zeros. */
static void transform_gradient(const Conv *s, const float *dy, int64_t t, float *m, int64_t apart) {
    int64_t n = t / (across(s) * down(s)), left = t % across(s) * OUT;
    int64_t top = t / across(s) % down(s) * OUT;
    int64_t rows = least(OUT, s->height - top), columns = least(OUT, s->width - left);
    dy += ((n * s->height + top) * s->width + left) * s->outputs;
    for (int64_t k = 0; k < s->outputs; k += LANES) {
        floats half[OUT][SIDE];
        for (int i = 0; i < OUT; i++) {
            floats d[OUT];
            for (int j = 0; j < OUT; j++)
                d[j] = i < rows && j < columns ? load(dy + (i * s->width + j) * s->outputs + k)
                                               : all(0.0f);
            points_of_gradients(d, half[i]);
        }
        for (int j = 0; j < SIDE; j++) {
            floats d[OUT], u[SIDE];
            for (int i = 0; i < OUT; i++) d[i] = half[i][j];
            points_of_gradients(d, u);
            for (int i = 0; i < SIDE; i++) store(m + (i * SIDE + j) * apart + k, u[i]);
        }
    }
}
