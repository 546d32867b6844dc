/* Vectors as wide as the processor's, and a product of matrices whose result stays in registers. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(_OPENMP)
extern int omp_get_thread_num(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
#endif

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#define EACH(x) {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}
#else
enum { LANES = 8, ROWS = 6 };
#define EACH(x) {x, x, x, x, x, x, x, x}
#endif
enum { STRIP = 2 * LANES, WIDTH = 4 * LANES };

typedef float floats __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(WIDTH), aligned(4), may_alias));

static inline floats load(const float *x) { return *(const floats *)x; }
static inline void store(float *x, floats v) { *(floats *)x = v; }
static inline floats all(float x) { return (floats)EACH(x); }

/* The larger of each two, or b where one is no number. */
static inline floats larger(floats a, floats b) {
#if defined(__AVX512F__)
    return (floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    whole where = a > b;
    return (floats)((where & (whole)a) | (~where & (whole)b));
#endif
}

static inline floats pick(whole where, floats yes, floats no) {
    return (floats)((where & (whole)yes) | (~where & (whole)no));
}

/* e^x to 1e-7 (Cody & Waite 1980): 2^n times a polynomial in what is left. */
static inline floats exponential(floats x) {
    x = pick(x < all(-87.0f), all(-87.0f), x);
    x = pick(x > all(88.0f), all(88.0f), x);
    floats n = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    whole bits = (whole)n - 0x4B400000;
    n -= 12582912.0f;
    floats r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    floats p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (floats)((bits + 127) << 23);
}

static inline float sum(floats v) {
    float total = 0.0f;
    for (int l = 0; l < LANES; l++) total += v[l];
    return total;
}

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* c (rows, STRIP) = or += a (rows, k) b (k, STRIP). a's strides are `row` and `column`, b's rows
 * are `wide` apart, c's `to`. */
static inline __attribute__((always_inline)) void tile(int rows, int64_t k, const float *a,
                                                       int64_t row, int64_t column,
                                                       const float *b, int64_t wide, float *c,
                                                       int64_t to, int add) {
    floats s[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        s[r][0] = add ? load(c + r * to) : all(0.0f);
        s[r][1] = add ? load(c + r * to + LANES) : all(0.0f);
    }
    for (int64_t i = 0; i < k; i++) {
        floats u = load(b), v = load(b + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            floats w = all(a[r * row]);
            s[r][0] += w * u;
            s[r][1] += w * v;
        }
        a += column;
        b += wide;
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        store(c + r * to, s[r][0]);
        store(c + r * to + LANES, s[r][1]);
    }
}

/* How many of n rows go into the next tile: the last two share what is left. */
static inline int rows_of_tile(int64_t n) {
    if (n <= ROWS) return (int)n;
    return n >= 2 * ROWS ? ROWS : (int)((n + 1) / 2);
}

/* A tile of any height, a strip wide. */
static inline __attribute__((always_inline)) void any_tile(int rows, int64_t k, const float *a,
                                                           int64_t row, int64_t column,
                                                           const float *b, int64_t wide, float *c,
                                                           int64_t to, int add) {
    switch (rows) {
#define CASE(n) \
    case n: tile(n, k, a, row, column, b, wide, c, to, add); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
    }
}
