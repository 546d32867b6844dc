/* A Transformer language model, decoding on a CPU in eight-bit weights. Read net.py first: this
 * is the same network, computed for many sequences side by side with nothing in between.
 *
 * Every number of a token is made by the same operations in the same order, whatever stands
 * beside it in the batch, however a text is cut into passes, and with any number of threads.
 * Products are of whole numbers and have no rounding. Compile without -ffast-math and with
 * -ffp-contract=off: both would let two copies of a loop differ in their last digits.
 *
 * N tokens of this pass, C features, F features within the feed-forward, H heads, G key/value
 * heads, D head size, V vocabulary, K inputs of a matrix.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#endif

enum { PAGE = 16, BLOCK = 16, TILE = 96, LANES = 8 };
enum { RMS = 0, LAYER = 1 };
enum { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, QUICK_GELU = 4 };

/* Keys and values are kept in half precision where the processor converts them in one step. */
#if defined(__AVX2__) && defined(__F16C__)
typedef uint16_t kept;
#else
typedef float kept;
#endif

int kept_size(void) { return (int)sizeof(kept); }

/* Weights as bytes in blocks of 16 outputs: for each pair of inputs, 16 times two bytes. */
typedef struct {
    const int8_t *codes;
    const float *scales; /* of each output, (out rounded up to 16) */
    const float *bias;   /* likewise, or NULL */
    int32_t out, in;
} Matrix;

typedef struct {
    Matrix qkv, attention_out, up, down;
    const float *attention_norm, *attention_norm_bias;
    const float *feed_forward_norm, *feed_forward_norm_bias;
    const float *q_norm, *k_norm; /* NULL: none */
    int32_t window;               /* 0: looks at all */
    int32_t unused;
} Layer;

typedef struct {
    int32_t layers, size, inner, heads, kv_heads, head_dim, vocabulary;
    int32_t norm, activation, gated;
    float eps, attention_scale;
    const float *embedding; /* (V, C) */
    const float *positions; /* (context, C), or NULL */
    const float *cosine, *sine; /* (context, D/2), or NULL */
    const float *final_norm, *final_norm_bias;
    Matrix head;
    const Layer *layer;
} Model;

/* ---- small pieces ---- */

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

/* ---- products ---- */

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

/* y = (or +=) a Wᵀ scaled, + bias; a is (N, K) in whole numbers. Shared among the threads. */
static void multiply(const Matrix *m, const int16_t *a, const float *a_scales, int n, float *y,
                     int add) {
    int pairs = padded(m->in) / 2, stride = padded(m->in), blocks = (m->out + BLOCK - 1) / BLOCK;
    for (int from = 0; from < n; from += TILE) {
        int to = from + TILE < n ? from + TILE : n;
#pragma omp for schedule(static)
        for (int block = 0; block < blocks; block++) {
            const int8_t *w = m->codes + (size_t)block * pairs * 2 * BLOCK;
            int first = block * BLOCK;
            int width = m->out - first < BLOCK ? m->out - first : BLOCK;
            int32_t sums[ROWS * BLOCK];
            for (int row = from, rows; row < to; row += rows) {
                const int16_t *part = a + (size_t)row * stride;
                rows = to - row >= ROWS ? ROWS : to - row > 4 ? 4 : to - row;
                switch (rows) { /* a constant number of rows stays in registers */
                case 1: product(part, stride, w, pairs, 1, sums); break;
                case 2: product(part, stride, w, pairs, 2, sums); break;
                case 3: product(part, stride, w, pairs, 3, sums); break;
                case 4: product(part, stride, w, pairs, 4, sums); break;
                default: product(part, stride, w, pairs, ROWS, sums);
                }
                for (int r = 0; r < rows; r++) {
                    float *to_row = y + (size_t)(row + r) * m->out + first;
                    float scale = a_scales[row + r];
                    for (int o = 0; o < width; o++) {
                        float value = (float)sums[BLOCK * r + o] * (scale * m->scales[first + o]);
                        if (m->bias) value += m->bias[first + o];
                        to_row[o] = add ? to_row[o] + value : value;
                    }
                }
            }
        }
    }
}

/* ---- attention ---- */

#if defined(__AVX2__) && defined(__F16C__)
static inline void keep(kept *to, const float *from, int n) {
    int i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
    for (; i < n; i++) to[i] = _cvtss_sh(from[i], 0);
}

static inline __m256 eight(const kept *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

/* Sum of eight lanes, in a fixed order. */
static inline float total(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* 64 numbers of a key are turned into floats once for all query heads that share it. */
static inline void dots(const float *q, int heads, const kept *k, int n, float *to, int stride) {
    for (int h = 0; h < heads; h++) to[h * stride] = 0.0f;
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        __m256 part[8];
        for (int l = 0; l < 8; l++) part[l] = eight(k + i + 8 * l);
        for (int h = 0; h < heads; h++) {
            const float *x = q + h * n + i;
            __m256 even = _mm256_mul_ps(_mm256_loadu_ps(x), part[0]);
            __m256 odd = _mm256_mul_ps(_mm256_loadu_ps(x + 8), part[1]);
            for (int l = 2; l < 8; l += 2) {
                even = _mm256_fmadd_ps(_mm256_loadu_ps(x + 8 * l), part[l], even);
                odd = _mm256_fmadd_ps(_mm256_loadu_ps(x + 8 * l + 8), part[l + 1], odd);
            }
            to[h * stride] += total(_mm256_add_ps(even, odd));
        }
    }
    for (; i + 8 <= n; i += 8)
        for (int h = 0; h < heads; h++)
            to[h * stride] += total(_mm256_mul_ps(_mm256_loadu_ps(q + h * n + i), eight(k + i)));
    for (; i < n; i++)
        for (int h = 0; h < heads; h++) to[h * stride] += q[h * n + i] * _cvtsh_ss(k[i]);
}

/* y[h] += weights[h] v, likewise. */
static inline void add_weighted(float *y, int heads, const float *weights, int stride,
                                const kept *v, int n) {
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        __m256 part[8];
        for (int l = 0; l < 8; l++) part[l] = eight(v + i + 8 * l);
        for (int h = 0; h < heads; h++) {
            float *to = y + h * n + i;
            __m256 w = _mm256_set1_ps(weights[h * stride]);
            for (int l = 0; l < 8; l++)
                _mm256_storeu_ps(to + 8 * l,
                                 _mm256_fmadd_ps(w, part[l], _mm256_loadu_ps(to + 8 * l)));
        }
    }
    for (; i + 8 <= n; i += 8)
        for (int h = 0; h < heads; h++) {
            float *to = y + h * n + i;
            _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_set1_ps(weights[h * stride]), eight(v + i),
                                                 _mm256_loadu_ps(to)));
        }
    for (; i < n; i++)
        for (int h = 0; h < heads; h++) y[h * n + i] += weights[h * stride] * _cvtsh_ss(v[i]);
}
#else
static inline void keep(kept *to, const float *from, int n) { memcpy(to, from, 4 * (size_t)n); }

static inline void dots(const float *q, int heads, const kept *k, int n, float *to, int stride) {
    for (int h = 0; h < heads; h++) {
        float lanes[LANES] = {0}, sum = 0.0f;
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int l = 0; l < LANES; l++) lanes[l] += q[h * n + i + l] * k[i + l];
        for (; i < n; i++) lanes[0] += q[h * n + i] * k[i];
        for (int l = 0; l < LANES; l++) sum += lanes[l];
        to[h * stride] = sum;
    }
}

static inline void add_weighted(float *y, int heads, const float *weights, int stride,
                                const kept *v, int n) {
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++) y[h * n + i] += weights[h * stride] * v[i];
}
#endif

/* Keys (which 0) or values (which 1) of a head in a page: (PAGE, D). */
static inline kept *page_of(const Model *m, kept *pool, int page, int layer, int which, int head) {
    size_t heads = (((size_t)page * m->layers + layer) * 2 + which) * m->kv_heads + head;
    return pool + heads * PAGE * m->head_dim;
}

/* x = e^(scale (x - max x)) in place; gives the sum, for softmax. */
static float weigh(float *x, int n, float scale) {
    float lanes[LANES], most = -INFINITY, sum = 0.0f;
    int i = 0;
    for (int l = 0; l < LANES; l++) lanes[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (; i < n; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (int l = 0; l < LANES; l++) most = lanes[l] > most ? lanes[l] : most;
    for (i = 0; i < n; i++) x[i] = exponential((x[i] - most) * scale);
    for (int l = 0; l < LANES; l++) lanes[l] = 0.0f;
    for (i = 0; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l];
    for (; i < n; i++) lanes[0] += x[i];
    for (int l = 0; l < LANES; l++) sum += lanes[l];
    return sum;
}

/* softmax(q·k * scale) v over the tokens that the one at `position` may look at, for some of the
 * query heads that share a key head: q and y are (heads, D), scores has room for (heads, context). */
static void attend(const Model *m, kept *pool, const int32_t *pages, int layer, int shared,
                   int heads, int position, const float *q, float *scores, int context, float *y) {
    int d = m->head_dim, window = m->layer[layer].window;
    int first = window && position + 1 > window ? position + 1 - window : 0;
    for (int j = first; j <= position;) {
        const kept *keys = page_of(m, pool, pages[j / PAGE], layer, 0, shared);
        int end = (j / PAGE + 1) * PAGE <= position ? (j / PAGE + 1) * PAGE : position + 1;
        for (; j < end; j++) dots(q, heads, keys + j % PAGE * d, d, scores + j, context);
    }
    float sums[heads];
    for (int h = 0; h < heads; h++)
        sums[h] = weigh(scores + (size_t)h * context + first, position + 1 - first,
                        m->attention_scale);
    memset(y, 0, sizeof(float) * heads * d);
    for (int j = first; j <= position;) {
        const kept *values = page_of(m, pool, pages[j / PAGE], layer, 1, shared);
        int end = (j / PAGE + 1) * PAGE <= position ? (j / PAGE + 1) * PAGE : position + 1;
        for (; j < end; j++)
            add_weighted(y, heads, scores + j, context, values + j % PAGE * d, d);
    }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < d; i++) y[h * d + i] /= sums[h];
}

/* Turn one head by its position (Su et al. 2021, eq. 34), feature i with feature i + D/2. */
static void rotate(float *x, const float *cosine, const float *sine, int d) {
    for (int i = 0; i < d / 2; i++) {
        float a = x[i], b = x[i + d / 2];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + d / 2] = b * cosine[i] + a * sine[i];
    }
}

/* One token's queries are made ready, its keys and values are kept. */
static void place(const Model *m, kept *pool, const int32_t *pages, int layer, int position,
                  float *qkv) {
    const Layer *l = m->layer + layer;
    int d = m->head_dim, h = m->heads, g = m->kv_heads;
    for (int head = 0; head < h + g; head++) {
        float *x = qkv + head * d;
        const float *weight = head < h ? l->q_norm : l->k_norm;
        if (weight) normalise(x, x, d, weight, 0, RMS, m->eps);
        if (m->cosine)
            rotate(x, m->cosine + (size_t)position * (d / 2), m->sine + (size_t)position * (d / 2), d);
    }
    size_t slot = (size_t)(position % PAGE) * d;
    for (int head = 0; head < g; head++) {
        keep(page_of(m, pool, pages[position / PAGE], layer, 0, head) + slot, qkv + (h + head) * d, d);
        keep(page_of(m, pool, pages[position / PAGE], layer, 1, head) + slot,
             qkv + (h + g + head) * d, d);
    }
}

/* ---- the network ---- */

typedef struct {
    float *x;       /* (N, C) */
    float *wide;    /* (N, of qkv or up) */
    float *seen;    /* (N, C or H*D) */
    float *scores;  /* (threads, H/G, context) */
    float *scales;  /* (N) */
    int16_t *codes; /* (N, widest input of a matrix) */
} Scratch;

#if defined(_OPENMP)
extern int omp_get_thread_num(void);
#else
static int omp_get_thread_num(void) { return 0; }
#endif

/* What lies between the two products of the feed-forward; (F or 2F) in place, and as whole numbers. */
static void think(const Model *m, float *wide, int16_t *codes, float *scale) {
    int f = m->inner;
    activate(wide, wide, f, m->activation);
    if (m->gated)
        for (int i = 0; i < f; i++) wide[i] *= wide[f + i];
    *scale = to_whole(wide, codes, f);
}

/* Logits after some tokens of a pass over N tokens of several sequences.
 *
 * ids, positions, owner: (N); the tokens of a sequence stand in order. pages: (sequences, most)
 * page numbers. wanted: (last) numbers of tokens. logits: (last, V). */
void forward(const Model *m, kept *pool, int n, const int32_t *ids, const int32_t *positions,
             const int32_t *owner, const int32_t *pages, int most, int last, const int32_t *wanted,
             float *logits, Scratch s, int context, int threads) {
    int c = m->size, h = m->heads, d = m->head_dim, qkv = (h + 2 * m->kv_heads) * d;
    int up = m->gated ? 2 * m->inner : m->inner, seen = c > h * d ? c : h * d;
    int share = h / m->kv_heads; /* query heads that share a key head are taken together, */
    int together = n * m->kv_heads < 4 * threads ? 1 : share; /* unless threads would wait */
#pragma omp parallel num_threads(threads)
    {
        float *scores =
            s.scores + (size_t)omp_get_thread_num() * context * share;
#pragma omp for schedule(static)
        for (int i = 0; i < n; i++) {
            memcpy(s.x + (size_t)i * c, m->embedding + (size_t)ids[i] * c, sizeof(float) * c);
            if (m->positions)
                for (int j = 0; j < c; j++)
                    s.x[(size_t)i * c + j] += m->positions[(size_t)positions[i] * c + j];
        }
        for (int layer = 0; layer < m->layers; layer++) {
            const Layer *l = m->layer + layer;
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) {
                float *y = s.seen + (size_t)i * seen;
                normalise(s.x + (size_t)i * c, y, c, l->attention_norm, l->attention_norm_bias,
                          m->norm, m->eps);
                s.scales[i] = to_whole(y, s.codes + (size_t)i * padded(c), c);
            }
            multiply(&l->qkv, s.codes, s.scales, n, s.wide, 0);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++)
                place(m, pool, pages + (size_t)owner[i] * most, layer, positions[i],
                      s.wide + (size_t)i * qkv);
#pragma omp for schedule(static)
            for (int item = 0; item < n * (h / together); item++) {
                int i = item / (h / together), head = item % (h / together) * together;
                attend(m, pool, pages + (size_t)owner[i] * most, layer, head / share, together,
                       positions[i], s.wide + (size_t)i * qkv + head * d, scores, context,
                       s.seen + (size_t)i * seen + head * d);
            }
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++)
                s.scales[i] = to_whole(s.seen + (size_t)i * seen,
                                       s.codes + (size_t)i * padded(h * d), h * d);
            multiply(&l->attention_out, s.codes, s.scales, n, s.x, 1);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) {
                float *y = s.seen + (size_t)i * seen;
                normalise(s.x + (size_t)i * c, y, c, l->feed_forward_norm,
                          l->feed_forward_norm_bias, m->norm, m->eps);
                s.scales[i] = to_whole(y, s.codes + (size_t)i * padded(c), c);
            }
            multiply(&l->up, s.codes, s.scales, n, s.wide, 0);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) {
                think(m, s.wide + (size_t)i * up, s.codes + (size_t)i * padded(m->inner),
                      s.scales + i);
            }
            multiply(&l->down, s.codes, s.scales, n, s.x, 1);
        }
#pragma omp for schedule(static)
        for (int i = 0; i < last; i++) {
            float *y = s.seen + (size_t)i * seen;
            normalise(s.x + (size_t)wanted[i] * c, y, c, m->final_norm, m->final_norm_bias, m->norm,
                      m->eps);
            s.scales[i] = to_whole(y, s.codes + (size_t)i * padded(c), c);
        }
        multiply(&m->head, s.codes, s.scales, last, logits, 0);
    }
}
