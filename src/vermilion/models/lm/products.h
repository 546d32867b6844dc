/* Products of rows with weights in float32 or in bytes, and the small functions that stand between
 * them. Part of decode.c, where the rules are said.
 *
 * N rows, K inputs and O outputs of a matrix.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#endif

enum { BLOCK = 16, TILE = 96, LANES = 8 };
enum { RMS = 0, LAYER = 1 };
enum { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, QUICK_GELU = 4 };

/* Weights in blocks of 16 outputs. Floats: for each input, 16. Bytes: for each pair of inputs, 16
 * times two. Four bits: see pack_blocks. */
typedef struct {
    const void *codes;
    const float *scales;  /* of each output, (out rounded up to 16); NULL: codes are floats */
    const int32_t *steps; /* NULL: codes are bytes, or floats */
    const float *least;   /* with steps */
    const float *bias;    /* as scales, or NULL */
    int32_t out, in;
} Matrix;

/* e^x to 1e-7 (Cody & Waite 1980): 2^n times a polynomial in what is left. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    int32_t whole;
    memcpy(&whole, &n, 4);
    n -= 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (int32_t)((uint32_t)(whole - 0x4B400000 + 127) << 23);
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* y = f(x), for f by its number. */
static void activate(const float *x, float *y, int n, int kind) {
    switch (kind) {
    case SILU:
        for (int i = 0; i < n; i++) y[i] = x[i] / (1.0f + exponential(-x[i]));
        break;
    case QUICK_GELU:
        for (int i = 0; i < n; i++) y[i] = x[i] / (1.0f + exponential(-1.702f * x[i]));
        break;
    case GELU_TANH: /* x * sigmoid(2 z) is x / 2 * (1 + tanh(z)) */
        for (int i = 0; i < n; i++) {
            float z = 0.797884561f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
            y[i] = x[i] / (1.0f + exponential(-2.0f * z));
        }
        break;
    case GELU:
        for (int i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.707106781f));
        break;
    default:
        for (int i = 0; i < n; i++) y[i] = x[i] > 0.0f ? x[i] : 0.0f;
    }
}

static float largest(const float *x, int n) {
    float lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float a = fabsf(x[i + l]);
            lanes[l] = a > lanes[l] ? a : lanes[l];
        }
    for (; i < n; i++) {
        float a = fabsf(x[i]);
        lanes[0] = a > lanes[0] ? a : lanes[0];
    }
    float most = 0.0f;
    for (int l = 0; l < LANES; l++) most = lanes[l] > most ? lanes[l] : most;
    return most;
}

static float sum_of_squares(const float *x, int n, float mean) {
    float lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float a = x[i + l] - mean;
            lanes[l] += a * a;
        }
    for (; i < n; i++) lanes[0] += (x[i] - mean) * (x[i] - mean);
    float sum = 0.0f;
    for (int l = 0; l < LANES; l++) sum += lanes[l];
    return sum;
}

static void normalise(const float *x, float *y, int n, const float *weight, const float *bias,
                      int kind, float eps) {
    float mean = 0.0f;
    if (kind == LAYER) {
        float lanes[LANES] = {0};
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int l = 0; l < LANES; l++) lanes[l] += x[i + l];
        for (; i < n; i++) lanes[0] += x[i];
        for (int l = 0; l < LANES; l++) mean += lanes[l];
        mean /= n;
    }
    float factor = 1.0f / sqrtf(sum_of_squares(x, n, mean) / n + eps);
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * factor * weight[i];
    if (bias)
        for (int i = 0; i < n; i++) y[i] += bias[i];
}

static inline int padded(int n) { return n + n % 2; }

/* A row as whole numbers so small that no sum over K products with bytes reaches 2^31. */
static float to_whole(const float *x, int16_t *codes, int n) {
    int64_t room = INT32_MAX / (127 * (int64_t)n);
    float limit = room < 2047 ? (float)room : 2047.0f;
    float most = largest(x, n);
    float factor = most > 0.0f ? limit / most : 0.0f;
    for (int i = 0; i < n; i++) codes[i] = (int16_t)(int32_t)rintf(x[i] * factor);
    if (n % 2) codes[n] = 0;
    return most / limit;
}

/* A matrix (out, in) as bytes from -127 to 127, each row with its scale, in the order of Matrix. */
void pack(const float *w, int out, int in, int8_t *codes, float *scales, int threads) {
    int pairs = padded(in) / 2;
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < out; row++) {
        const float *x = w + (size_t)row * in;
        float most = largest(x, in), factor = most > 0.0f ? 127.0f / most : 0.0f;
        int8_t *to = codes + (size_t)(row / BLOCK) * pairs * 2 * BLOCK + row % BLOCK * 2;
        for (int k = 0; k < in; k++) to[k / 2 * 2 * BLOCK + k % 2] = (int8_t)rintf(x[k] * factor);
        scales[row] = most / 127.0f;
    }
}

/* The same matrix as floats, in the order of Matrix. */
void lay_out(const float *w, int out, int in, float *codes, int threads) {
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < out; row++)
        for (int k = 0; k < in; k++)
            codes[((size_t)(row / BLOCK) * in + k) * BLOCK + row % BLOCK] = w[(size_t)row * in + k];
}

/* Rows at once: as many sums as there are registers for, with the weights and one input. */
#if defined(__AVX512BW__)
enum { ROWS = 12 };
#else
enum { ROWS = 5 };
#endif

/* For `rows` rows and 16 outputs: sums[r][o] = Σ_k a[r][k] w[o][k]. */
static inline __attribute__((always_inline)) void
product(const int16_t *a, int stride, const int8_t *w, int pairs, int rows, int32_t *sums) {
#if defined(__AVX512BW__)
    __m512i acc[ROWS];
    for (int r = 0; r < rows; r++) acc[r] = _mm512_setzero_si512();
    for (int k = 0; k < pairs; k++) {
        __m512i v = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(w + 32 * k)));
        for (int r = 0; r < rows; r++) {
            int32_t both;
            memcpy(&both, a + r * stride + 2 * k, 4);
#if defined(__AVX512VNNI__)
            acc[r] = _mm512_dpwssd_epi32(acc[r], v, _mm512_set1_epi32(both));
#else
            acc[r] = _mm512_add_epi32(acc[r], _mm512_madd_epi16(v, _mm512_set1_epi32(both)));
#endif
        }
    }
    for (int r = 0; r < rows; r++) _mm512_storeu_si512(sums + BLOCK * r, acc[r]);
#elif defined(__AVX2__)
    __m256i low[ROWS], high[ROWS];
    for (int r = 0; r < rows; r++) low[r] = high[r] = _mm256_setzero_si256();
    for (int k = 0; k < pairs; k++) {
        __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 32 * k)));
        __m256i u = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 32 * k + 16)));
        for (int r = 0; r < rows; r++) {
            int32_t both;
            memcpy(&both, a + r * stride + 2 * k, 4);
            __m256i b = _mm256_set1_epi32(both);
            low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(v, b));
            high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(u, b));
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_si256((__m256i *)(sums + BLOCK * r), low[r]);
        _mm256_storeu_si256((__m256i *)(sums + BLOCK * r + 8), high[r]);
    }
#else
    memset(sums, 0, sizeof(int32_t) * BLOCK * rows);
    for (int k = 0; k < pairs; k++)
        for (int r = 0; r < rows; r++) {
            int32_t first = a[r * stride + 2 * k], second = a[r * stride + 2 * k + 1];
            for (int o = 0; o < BLOCK; o++)
                sums[BLOCK * r + o] += first * w[32 * k + 2 * o] + second * w[32 * k + 2 * o + 1];
        }
#endif
}

/* The same for floats: sums[r][o] = Σ_k a[r][k] w[o][k], added in the order of k. */
static inline __attribute__((always_inline)) void
product_of_floats(const float *a, int stride, const float *w, int n, int rows, float *sums) {
#if defined(__AVX512F__)
    __m512 acc[ROWS];
    for (int r = 0; r < rows; r++) acc[r] = _mm512_setzero_ps();
    for (int k = 0; k < n; k++) {
        __m512 v = _mm512_loadu_ps(w + BLOCK * k);
        for (int r = 0; r < rows; r++)
            acc[r] = _mm512_fmadd_ps(v, _mm512_set1_ps(a[r * stride + k]), acc[r]);
    }
    for (int r = 0; r < rows; r++) _mm512_storeu_ps(sums + BLOCK * r, acc[r]);
#elif defined(__AVX2__) && defined(__FMA__)
    __m256 low[ROWS], high[ROWS];
    for (int r = 0; r < rows; r++) low[r] = high[r] = _mm256_setzero_ps();
    for (int k = 0; k < n; k++) {
        __m256 v = _mm256_loadu_ps(w + BLOCK * k), u = _mm256_loadu_ps(w + BLOCK * k + 8);
        for (int r = 0; r < rows; r++) {
            __m256 b = _mm256_broadcast_ss(a + r * stride + k);
            low[r] = _mm256_fmadd_ps(v, b, low[r]);
            high[r] = _mm256_fmadd_ps(u, b, high[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(sums + BLOCK * r, low[r]);
        _mm256_storeu_ps(sums + BLOCK * r + 8, high[r]);
    }
#else
    memset(sums, 0, sizeof(float) * BLOCK * rows);
    for (int k = 0; k < n; k++)
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < BLOCK; o++)
                sums[BLOCK * r + o] += a[r * stride + k] * w[BLOCK * k + o];
#endif
}
