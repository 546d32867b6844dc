/* Vectors of LANES numbers, 8 or 16, as whoever includes this says before, and e^x of one. */

#pragma once

#include <stdint.h>

#if LANES == 16
#define EACH(x) {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}
#else
#define EACH(x) {x, x, x, x, x, x, x, x}
#endif
enum { WIDTH = 4 * LANES };

typedef float floats __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(WIDTH), aligned(4), may_alias));

static inline floats load(const float *x) { return *(const floats *)x; }
static inline void store(float *x, floats v) { *(floats *)x = v; }
static inline floats all(float x) { return (floats)EACH(x); }

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
