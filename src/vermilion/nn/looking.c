/* Attention without a mask, block by block with a running softmax (Dao et al. 2022, alg. 1;
 * Milakov & Gimelshein 2018). Queries lie along the vectors: no sum runs across one.
 *
 * Every number is made by the same operations in the same order with any number of threads, and
 * whatever else is in the batch.
 *
 * B batch, H heads, T queries, S keys, D head size.
 */

#include "lanes.h"

enum { KEYS = 96, STRIPS = 12, QUERIES = STRIPS * STRIP };

typedef struct {
    int64_t batch, heads, queries, keys, size;
    float scale;
} Attention;

/* Numbers (B, H, T, D), the last dimension without gaps. */
typedef struct {
    float *at;
    int64_t batch, head, token;
} View;

static inline const float *row_of(View v, int64_t pair, int64_t heads, int64_t t) {
    return v.at + pair / heads * v.batch + pair % heads * v.head + t * v.token;
}

/* 2^x for x <= 0, to 2e-7 of its size; 0 from -126 down. */
static inline floats power(floats x) {
    x = larger(x, all(-126.0f));
    floats n = x + 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    whole bits = (whole)n << 23;
    floats r = x - (n - 12582912.0f);
    floats p = r * 0.00132764702f + 0.00967554096f;
    p = p * r + 0.0555071309f;
    p = p * r + 0.240221202f;
    p = p * r + 0.693146944f;
    p = p * r + 1.00000012f;
    return (floats)((whole)p + bits);
}

/* s (keys, STRIP) of scores becomes their weights. The most of each query, the sum of its weights
 * and what it has seen so far, seen (D, STRIP), are brought up to date. */
static void soften(float *s, int64_t keys, int64_t size, float *most, float *total, float *seen) {
    for (int part = 0; part < STRIP; part += LANES) {
        floats old = load(most + part), top = old, whole_sum = all(0.0f);
        for (int64_t j = 0; j < keys; j++) {
            top = larger(load(s + j * STRIP + part), top);
        }
        for (int64_t j = 0; j < keys; j++) {
            floats p = power(load(s + j * STRIP + part) - top);
            store(s + j * STRIP + part, p);
            whole_sum += p;
        }
        floats kept = power(old - top);
        store(most + part, top);
        store(total + part, load(total + part) * kept + whole_sum);
        for (int64_t i = 0; i < size; i++)
            store(seen + i * STRIP + part, load(seen + i * STRIP + part) * kept);
    }
}

/* c (m, STRIP) = or += a (m, k) b (k, STRIP). */
static void product(int64_t m, int64_t k, const float *a, int64_t row, int64_t column,
                    const float *b, float *c, int add) {
    for (int64_t i = 0, rows; i < m; i += rows) {
        rows = rows_of_tile(m - i);
        any_tile((int)rows, k, a + i * row, row, column, b, STRIP, c + i * STRIP, STRIP, add);
    }
}

/* A strip of queries, scaled, turned to (D, STRIP); zeros behind the last. */
static void strip_of(const Attention *a, View q, int64_t pair, int64_t first, float *to) {
    for (int64_t l = 0; l < STRIP; l++) {
        const float *from = row_of(q, pair, a->heads, first + l);
        int inside = first + l < a->queries;
        for (int64_t i = 0; i < a->size; i++)
            to[i * STRIP + l] = inside ? from[i] * (a->scale * 1.44269504f) : 0.0f;
    }
}

/* How many numbers of room `attend` needs. */
int64_t attend_room(const Attention *a, int threads) {
    int64_t thread = STRIPS * STRIP * (2 * a->size + 2) + KEYS * STRIP;
    return 2 * a->batch * a->heads * a->keys * a->size + threads * thread;
}

/* y (B, H, T, D) = softmax(scale q kᵀ) v. */
void attend(const Attention *a, View q, View k, View v, View y, float *room, int threads) {
    int64_t pairs = a->batch * a->heads, d = a->size, block = a->keys * d;
    int64_t parts = (a->queries + QUERIES - 1) / QUERIES;
    float *keys = room, *values = keys + pairs * block, *own = values + pairs * block;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pair = 0; pair < pairs; pair++)
        for (int64_t t = 0; t < a->keys; t++) {
            memcpy(keys + pair * block + t * d, row_of(k, pair, a->heads, t), sizeof(float) * d);
            memcpy(values + pair * block + t * d, row_of(v, pair, a->heads, t), sizeof(float) * d);
        }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t item = 0; item < pairs * parts; item++) {
        int64_t pair = item / parts, first = item % parts * QUERIES;
        int64_t strips = round_up(least(QUERIES, a->queries - first), STRIP) / STRIP;
        float *query = own + omp_get_thread_num() * (STRIPS * STRIP * (2 * d + 2) + KEYS * STRIP);
        float *seen = query + STRIPS * STRIP * d, *most = seen + STRIPS * STRIP * d;
        float *total = most + STRIPS * STRIP, *scores = total + STRIPS * STRIP;
        memset(seen, 0, sizeof(float) * STRIPS * STRIP * d);
        for (int64_t l = 0; l < STRIPS * STRIP; l++) most[l] = -1e30f, total[l] = 0.0f;
        for (int64_t j = 0; j < strips; j++)
            strip_of(a, q, pair, first + j * STRIP, query + j * STRIP * d);
        for (int64_t at = 0; at < a->keys; at += KEYS) {
            int64_t n = least(KEYS, a->keys - at), from = pair * block + at * d;
            for (int64_t j = 0; j < strips; j++) {
                float *own_seen = seen + j * STRIP * d;
                product(n, d, keys + from, d, 1, query + j * STRIP * d, scores, 0);
                soften(scores, n, d, most + j * STRIP, total + j * STRIP, own_seen);
                product(d, n, values + from, 1, d, scores, own_seen, 1);
            }
        }
        for (int64_t l = 0; l < least(QUERIES, a->queries - first); l++) {
            float *to = (float *)row_of(y, pair, a->heads, first + l), part = 1.0f / total[l];
            const float *from = seen + l / STRIP * STRIP * d + l % STRIP;
            for (int64_t i = 0; i < d; i++) to[i] = from[i * STRIP] * part;
        }
    }
}
