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
#define LANES 16
enum { ROWS = 12 };
#else
#define LANES 8
enum { ROWS = 6 };
#endif
enum { STRIP = 2 * LANES };

#include "vectors.h"

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
