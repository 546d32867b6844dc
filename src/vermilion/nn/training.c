/* Parts of a network in training that are neither products of large matrices nor one of torch's
 * fast operators on a CPU: causal attention, dropout and activations, each with its gradient.
 *
 * Every number is made by the same operations in the same order with any number of threads.
 *
 * B batch, H query heads, G key/value heads, T tokens, D head size, N numbers, R rows of a block.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_OPENMP)
extern int omp_get_thread_num(void);
#else
static int omp_get_thread_num(void) { return 0; }
#endif

#define LANES 8 /* on any machine: what is dropped depends on it */
#include "vectors.h"

enum { STRIP = 2 * LANES, ROWS = 6, BLOCK = 4 * ROWS, CHUNK = 4 * LANES, PIECE = 8192, LINE = 64 };

typedef uint32_t words __attribute__((vector_size(WIDTH), aligned(4), may_alias));

/* Which numbers are dropped: a byte of noise decides about each. */
typedef struct {
    uint32_t key[2];
    int32_t dropped; /* of 256; 0: none */
    float scale;     /* of what is kept: 256 / (256 - dropped) */
} Drop;

/* Two rounds of a hash of 32 bits (Wellons 2018, lowbias32), keyed before each. */
static inline words mix(words x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

static inline words noise(const Drop *d, uint32_t chunk) {
    words lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return mix(mix(lane + (chunk * LANES + d->key[0])) ^ d->key[1]);
}

/* What the eight numbers of a quarter of a chunk are multiplied by: 0, or the scale. */
static inline floats factor(const Drop *d, words drawn, int quarter) {
    whole kept = (whole)((drawn >> (8 * quarter)) & 255u) >= d->dropped;
    return (floats)(kept & (whole)all(d->scale));
}

/* y = x * factor. A chunk's noise depends on its number alone. */
void drop(const float *x, float *y, int64_t n, const Drop *d, int threads) {
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        words drawn = noise(d, (uint32_t)c);
        const float *from = x + c * CHUNK;
        float *to = y + c * CHUNK, rest[CHUNK];
        int64_t left = n - c * CHUNK;
        if (left < CHUNK) {
            memset(rest, 0, sizeof rest);
            memcpy(rest, from, sizeof(float) * left);
            from = rest;
        }
        float *out = left < CHUNK ? rest : to;
        for (int g = 0; g < 4; g++)
            store(out + LANES * g, load(from + LANES * g) * factor(d, drawn, g));
        if (left < CHUNK) memcpy(to, rest, sizeof(float) * left);
    }
}

enum { SILU = 0, GELU_TANH = 2 };

/* x σ(u(x)), and its derivative: σ + x σ (1 - σ) u'. For SiLU u is x, for GELU, whose tanh is a
 * sigmoid of twice its argument, 2 sqrt(2/π) (x + 0.044715 x³). */
static inline floats sigmoid(floats u) { return 1.0f / (1.0f + exponential(-u)); }

static inline floats argument(floats x, int kind) {
    if (kind == GELU_TANH) x *= x * x * 0.0713548163f + 1.5957691216f;
    return x;
}

static inline floats active(floats x, int kind) { return x * sigmoid(argument(x, kind)); }

static inline floats slope(floats x, int kind) {
    floats s = sigmoid(argument(x, kind));
    floats inner = all(1.0f);
    if (kind == GELU_TANH) inner = x * x * 0.2140644489f + 1.5957691216f;
    return s + x * s * (1.0f - s) * inner;
}

/* y = f(x) for dy NULL, else y = dy f'(x), eight at a time. */
static inline void activate_piece(const float *x, const float *dy, float *y, int64_t n, int kind) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        floats v = load(x + i);
        if (dy) store(y + i, load(dy + i) * slope(v, kind));
        else store(y + i, active(v, kind));
    }
    for (; i < n; i++) {
        floats v = all(x[i]);
        y[i] = dy ? dy[i] * slope(v, kind)[0] : active(v, kind)[0];
    }
}

void activate(const float *x, const float *dy, float *y, int64_t n, int kind, int threads) {
    int64_t pieces = (n + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < pieces; p++) {
        int64_t at = p * PIECE, m = n - at < PIECE ? n - at : PIECE;
        if (kind == SILU) activate_piece(x + at, dy ? dy + at : NULL, y + at, m, SILU);
        else activate_piece(x + at, dy ? dy + at : NULL, y + at, m, GELU_TANH);
    }
}

/* c (rows, 16) = or += a (rows, k) b (k, 16), in registers; a's strides are `row` and `column`. */
static inline __attribute__((always_inline)) void tile(int rows, int64_t k, const float *a,
                                                       int64_t row, int64_t column,
                                                       const float *b, int64_t wide, float *c,
                                                       int64_t to, int add) {
    floats s[ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        s[r][0] = add ? load(c + r * to) : all(0.0f);
        s[r][1] = add ? load(c + r * to + LANES) : all(0.0f);
    }
    for (int64_t i = 0; i < k; i++) {
        floats u = load(b), v = load(b + LANES);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            floats w = all(a[r * row]);
            s[r][0] += w * u;
            s[r][1] += w * v;
        }
        a += column;
        b += wide;
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        store(c + r * to, s[r][0]);
        store(c + r * to + LANES, s[r][1]);
    }
}

/* c (m, n) = or += a (m, k) b (k, n), n a multiple of 16. b lies in strips of 16 columns that are
 * `strip` numbers apart, their rows `wide`. */
static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row, int64_t column,
                    const float *b, int64_t wide, int64_t strip, float *c, int64_t to, int add) {
    for (int64_t j = 0; j < n; j += STRIP, b += strip) {
        int64_t i = 0;
        for (; i + ROWS <= m; i += ROWS)
            tile(ROWS, k, a + i * row, row, column, b, wide, c + i * to + j, to, add);
        for (; i + 2 <= m; i += 2)
            tile(2, k, a + i * row, row, column, b, wide, c + i * to + j, to, add);
        for (; i < m; i++) tile(1, k, a + i * row, row, column, b, wide, c + i * to + j, to, add);
    }
}

/* Numbers (B, heads, T, D), the last dimension without gaps. */
typedef struct {
    float *at;
    int64_t batch, head, token;
} View;

typedef struct {
    int64_t batch, heads, groups, tokens, size;
    float scale;
    Drop drop;
} Attention;

static inline float *rows_of(View v, int64_t b, int64_t h, int64_t t) {
    return v.at + b * v.batch + h * v.head + t * v.token;
}

/* A head's rows from `first` on into (n, wide), zeros behind each. */
static void gather(View v, int64_t b, int64_t h, int64_t first, int64_t n, int64_t d, int64_t wide,
                   float factor, float *to) {
    for (int64_t t = 0; t < n; t++, to += wide) {
        const float *from = rows_of(v, b, h, first + t);
        for (int64_t i = 0; i < d; i++) to[i] = from[i] * factor;
        for (int64_t i = d; i < wide; i++) to[i] = 0.0f;
    }
}

static void scatter(View v, int64_t b, int64_t h, int64_t first, int64_t n, int64_t d, int64_t wide,
                    float factor, const float *from) {
    for (int64_t t = 0; t < n; t++, from += wide) {
        float *to = rows_of(v, b, h, first + t);
        for (int64_t i = 0; i < d; i++) to[i] = from[i] * factor;
    }
}

/* A head's rows turned into strips of 16 tokens: (T/16, D, 16), zeros behind the last. */
static void strips(View v, int64_t b, int64_t h, int64_t tokens, int64_t d, float *to) {
    for (int64_t j = 0; j < tokens; j += STRIP)
        for (int64_t l = 0; l < STRIP; l++) {
            if (j + l < tokens) {
                const float *from = rows_of(v, b, h, j + l);
                for (int64_t i = 0; i < d; i++) to[(j * d) + i * STRIP + l] = from[i];
            } else
                for (int64_t i = 0; i < d; i++) to[(j * d) + i * STRIP + l] = 0.0f;
        }
}

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* The first chunk of noise of a query's row. */
static inline uint32_t first_chunk(const Attention *a, int64_t b, int64_t h, int64_t t) {
    return (uint32_t)(((b * a->heads + h) * a->tokens + t) * (round_up(a->tokens, CHUNK) / CHUNK));
}

/* softmax of the first n of a row of scores, dropped; zeros up to `room`. Gives log(sum(e^s)). */
static float soften(float *s, int64_t n, int64_t room, const Drop *d, uint32_t chunk) {
    for (int64_t j = n; j < room; j++) s[j] = -INFINITY;
    floats top = load(s);
    for (int64_t j = LANES; j < room; j += LANES) top = pick(load(s + j) > top, load(s + j), top);
    float most = top[0];
    for (int l = 1; l < LANES; l++) most = top[l] > most ? top[l] : most;
    floats total = all(0.0f);
    for (int64_t j = 0; j < room; j += LANES) {
        floats x = load(s + j), e = exponential(x - most);
        e = pick(x == all(-INFINITY), all(0.0f), e);
        total += e;
        store(s + j, e);
    }
    float whole_sum = sum(total), part = 1.0f / whole_sum;
    if (!d->dropped)
        for (int64_t j = 0; j < room; j += LANES) store(s + j, load(s + j) * part);
    else
        for (int64_t j = 0; j < room; j += CHUNK, chunk++) {
            words drawn = noise(d, chunk);
            for (int g = 0; g < 4; g++)
                store(s + j + LANES * g, load(s + j + LANES * g) * part * factor(d, drawn, g));
        }
    return most + logf(whole_sum);
}

/* y = dropped(softmax(scale q kᵀ)) v, where a query sees the keys up to its own place.
 * q, y: (B, H, T, D); k, v: (B, G, T, D); logs: (B, H, T), for the gradient. */
int attend(const Attention *a, View q, View k, View v, View y, float *logs, int threads) {
    int64_t t = a->tokens, d = a->size, wide = round_up(d, STRIP), room = round_up(t, CHUNK);
    int64_t apart = room + STRIP; /* of rows of scores: they must not share lines of the cache */
    int64_t numbers = room * (d + wide) + BLOCK * (2 * wide + apart);
    void *held = malloc(sizeof(float) * numbers * threads + LINE);
    if (!held) return 1;
    float *scratch = (float *)(((uintptr_t)held + LINE - 1) / LINE * LINE);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pair = 0; pair < a->batch * a->heads; pair++) {
        int64_t b = pair / a->heads, h = pair % a->heads, g = h / (a->heads / a->groups);
        float *keys = scratch + numbers * omp_get_thread_num();
        float *values = keys + room * d, *query = values + room * wide;
        float *seen = query + BLOCK * wide, *scores = seen + BLOCK * wide;
        strips(k, b, g, t, d, keys);
        gather(v, b, g, 0, t, d, wide, 1.0f, values);
        for (int64_t first = 0; first < t; first += BLOCK) {
            int64_t rows = t - first < BLOCK ? t - first : BLOCK, end = first + rows;
            gather(q, b, h, first, rows, d, wide, a->scale, query);
            product(rows, round_up(end, STRIP), d, query, wide, 1, keys, STRIP, STRIP * d, scores,
                    apart, 0);
            for (int64_t r = 0; r < rows; r++)
                logs[pair * t + first + r] =
                    soften(scores + r * apart, first + r + 1, round_up(end, CHUNK), &a->drop,
                           first_chunk(a, b, h, first + r));
            product(rows, wide, end, scores, apart, 1, values, wide, STRIP, seen, wide, 0);
            scatter(y, b, h, first, rows, d, wide, 1.0f, seen);
        }
    }
    free(held);
    return 0;
}

/* A row of scores s and of gradients g of what stands after the dropout: s becomes what stood
 * there, g the gradient of the scores, p (g factor - delta). */
static void harden(float *s, float *g, int64_t n, int64_t room, float log_sum, float delta,
                   const Drop *d, uint32_t chunk) {
    for (int64_t j = n; j < room; j++) s[j] = -INFINITY, g[j] = 0.0f;
    for (int64_t j = 0; j < room; j += CHUNK, chunk++) {
        words drawn = {0};
        if (d->dropped) drawn = noise(d, chunk);
        for (int i = 0; i < 4; i++) {
            float *x = s + j + LANES * i, *dx = g + j + LANES * i;
            floats p = exponential(load(x) - log_sum);
            p = pick(load(x) == all(-INFINITY), all(0.0f), p);
            floats f = factor(d, drawn, i);
            store(x, p * f);
            store(dx, p * (load(dx) * f - delta));
        }
    }
}

/* The gradients of `attend`, from dy and what it gave. dk and dv are of the key heads. */
int attend_backward(const Attention *a, View q, View k, View v, View y, const float *logs, View dy,
                    View dq, View dk, View dv, int threads) {
    int64_t t = a->tokens, d = a->size, wide = round_up(d, STRIP), room = round_up(t, CHUNK);
    int64_t share = a->heads / a->groups, apart = room + STRIP;
    int64_t numbers = room * (2 * d + 3 * wide) + BLOCK * (3 * wide + 2 * apart);
    void *held = malloc(sizeof(float) * numbers * threads + LINE);
    if (!held) return 1;
    float *scratch = (float *)(((uintptr_t)held + LINE - 1) / LINE * LINE);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pair = 0; pair < a->batch * a->groups; pair++) {
        int64_t b = pair / a->groups, g = pair % a->groups;
        float *turned = scratch + numbers * omp_get_thread_num();
        float *turned_values = turned + room * d, *keys = turned_values + room * d;
        float *d_keys = keys + room * wide, *d_values = d_keys + room * wide;
        float *query = d_values + room * wide, *gradient = query + BLOCK * wide;
        float *d_query = gradient + BLOCK * wide, *scores = d_query + BLOCK * wide;
        float *d_scores = scores + BLOCK * apart;
        strips(k, b, g, t, d, turned);
        strips(v, b, g, t, d, turned_values);
        gather(k, b, g, 0, t, d, wide, 1.0f, keys);
        memset(d_keys, 0, sizeof(float) * 2 * room * wide);
        for (int64_t h = g * share; h < (g + 1) * share; h++)
            for (int64_t first = 0; first < t; first += BLOCK) {
                int64_t rows = t - first < BLOCK ? t - first : BLOCK, end = first + rows;
                int64_t columns = round_up(end, STRIP);
                gather(q, b, h, first, rows, d, wide, a->scale, query);
                gather(dy, b, h, first, rows, d, wide, 1.0f, gradient);
                product(rows, columns, d, query, wide, 1, turned, STRIP, STRIP * d, scores, apart,
                        0);
                product(rows, columns, d, gradient, wide, 1, turned_values, STRIP, STRIP * d,
                        d_scores, apart, 0);
                for (int64_t r = 0; r < rows; r++) {
                    const float *given = rows_of(y, b, h, first + r), *dg = gradient + r * wide;
                    floats delta = all(0.0f);
                    int64_t i = 0;
                    for (; i + LANES <= d; i += LANES) delta += load(given + i) * load(dg + i);
                    for (; i < d; i++) delta[0] += given[i] * dg[i];
                    harden(scores + r * apart, d_scores + r * apart, first + r + 1,
                           round_up(end, CHUNK), logs[(b * a->heads + h) * t + first + r],
                           sum(delta), &a->drop, first_chunk(a, b, h, first + r));
                }
                product(end, wide, rows, scores, 1, apart, gradient, wide, STRIP, d_values, wide, 1);
                product(end, wide, rows, d_scores, 1, apart, query, wide, STRIP, d_keys, wide, 1);
                product(rows, wide, end, d_scores, apart, 1, keys, wide, STRIP, d_query, wide, 0);
                scatter(dq, b, h, first, rows, d, wide, a->scale, d_query);
            }
        scatter(dk, b, g, 0, t, d, wide, 1.0f, d_keys);
        scatter(dv, b, g, 0, t, d, wide, 1.0f, d_values);
    }
    free(held);
    return 0;
}
