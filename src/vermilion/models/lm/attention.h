/* Attention over pages of keys and values. Part of decode.c.
 *
 * H heads, G key/value heads, D head size.
 */

enum { PAGE = 16 }; /* tokens */

/* In int8, keys and values are kept in half precision where the processor converts them. */
#if defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
enum { HALF = 1 };
#else
enum { HALF = 0 };
#endif

int kept_size(int whole) { return whole && HALF ? 2 : 4; }

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
    int32_t norm, activation, gated, whole; /* whole: in int8 */
    float eps, attention_scale;
    const float *embedding; /* (V, C) */
    const float *positions; /* (context, C), or NULL */
    const float *cosine, *sine; /* (context, D/2), or NULL */
    const float *final_norm, *final_norm_bias;
    Matrix head;
    const Layer *layer;
} Model;

#if defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
static inline __m256 eight(const void *x, size_t at, int half) {
    return half ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + at)))
                : _mm256_loadu_ps((const float *)x + at);
}

static inline float number(const void *x, size_t at, int half) {
    return half ? _cvtsh_ss(((const uint16_t *)x)[at]) : ((const float *)x)[at];
}

static inline uint16_t to_half(float x) { return _cvtss_sh(x, 0); }

/* A constant number of heads stays in registers. */
static inline __attribute__((always_inline)) void
dots_of(const float *q, const void *keys, size_t at, int half, int d, int heads, float *to,
        int stride) {
    __m256 even[3][2], odd[3][2];
    for (int h = 0; h < heads; h++)
        even[h][0] = even[h][1] = odd[h][0] = odd[h][1] = _mm256_setzero_ps();
    for (int i = 0; i < d / 2 * 2; i += 2) {
        const size_t k = at + (size_t)i * PAGE;
        __m256 a = eight(keys, k, half), b = eight(keys, k + 8, half);
        __m256 u = eight(keys, k + 16, half), v = eight(keys, k + 24, half);
        for (int h = 0; h < heads; h++) {
            __m256 x = _mm256_broadcast_ss(q + h * d + i);
            __m256 y = _mm256_broadcast_ss(q + h * d + i + 1);
            even[h][0] = _mm256_fmadd_ps(x, a, even[h][0]);
            even[h][1] = _mm256_fmadd_ps(x, b, even[h][1]);
            odd[h][0] = _mm256_fmadd_ps(y, u, odd[h][0]);
            odd[h][1] = _mm256_fmadd_ps(y, v, odd[h][1]);
        }
    }
    if (d % 2)
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < 2; j++)
                even[h][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(q + h * d + d - 1),
                                             eight(keys, at + (size_t)(d - 1) * PAGE + 8 * j, half),
                                             even[h][j]);
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < 2; j++)
            _mm256_storeu_ps(to + (size_t)h * stride + 8 * j, _mm256_add_ps(even[h][j], odd[h][j]));
}

static inline __attribute__((always_inline)) void
weighted_of(float *y, const void *values, size_t at, int half, int d, int heads, int eights,
            const float *weights, int stride, int n) {
    __m256 sum[3][8];
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < eights; i++) sum[h][i] = _mm256_loadu_ps(y + h * d + 8 * i);
    for (int j = 0; j < n; j++) {
        __m256 w[3];
        for (int h = 0; h < heads; h++) w[h] = _mm256_broadcast_ss(weights + (size_t)h * stride + j);
        for (int i = 0; i < eights; i++) {
            __m256 v = eight(values, at + (size_t)j * d + 8 * i, half);
            for (int h = 0; h < heads; h++) sum[h][i] = _mm256_fmadd_ps(w[h], v, sum[h][i]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < eights; i++) _mm256_storeu_ps(y + h * d + 8 * i, sum[h][i]);
}

/* q·k for all tokens of a page: keys are (D, PAGE), to is (heads, stride). */
static inline void dots(const float *q, const void *keys, size_t at, int half, int d, int heads,
                        float *to, int stride) {
    for (; heads >= 3; heads -= 3, q += 3 * d, to += 3 * (size_t)stride)
        dots_of(q, keys, at, half, d, 3, to, stride);
    if (heads == 2) dots_of(q, keys, at, half, d, 2, to, stride);
    if (heads == 1) dots_of(q, keys, at, half, d, 1, to, stride);
}

/* y += weights v for n tokens of a page: values are (n, D), weights (heads, stride). */
static inline void add_weighted(float *y, const void *values, size_t at, int half, int d, int heads,
                                const float *weights, int stride, int n) {
    for (int few; heads > 0; heads -= few, y += few * d, weights += few * (size_t)stride) {
        int i = 0;
        few = heads < 3 ? heads : 3;
        for (; few == 3 && i + 32 <= d; i += 32)
            weighted_of(y + i, values, at + i, half, d, 3, 4, weights, stride, n);
        for (; few == 2 && i + 32 <= d; i += 32)
            weighted_of(y + i, values, at + i, half, d, 2, 4, weights, stride, n);
        for (; few == 1 && i + 64 <= d; i += 64)
            weighted_of(y + i, values, at + i, half, d, 1, 8, weights, stride, n);
        for (; i + 8 <= d; i += 8)
            for (int h = 0; h < few; h++)
                weighted_of(y + h * d + i, values, at + i, half, d, 1, 1,
                            weights + (size_t)h * stride, stride, n);
        for (; i < d; i++)
            for (int h = 0; h < few; h++)
                for (int j = 0; j < n; j++)
                    y[h * d + i] += weights[(size_t)h * stride + j] *
                                    number(values, at + (size_t)j * d + i, half);
    }
}
#else
static inline uint16_t to_half(float x) { return (uint16_t)x; /* never: HALF is 0 */ }

/* q·k for all tokens of a page: keys are (D, PAGE), to is (heads, stride). */
static inline void dots(const float *q, const void *keys, size_t at, int half, int d, int heads,
                        float *to, int stride) {
    const float *k = (const float *)keys + at;
    (void)half;
    for (int h = 0; h < heads; h++) {
        float sum[PAGE] = {0};
        for (int i = 0; i < d; i++)
            for (int j = 0; j < PAGE; j++) sum[j] += q[h * d + i] * k[i * PAGE + j];
        memcpy(to + (size_t)h * stride, sum, sizeof sum);
    }
}

/* y += weights v for n tokens of a page: values are (n, D), weights (heads, stride). */
static inline void add_weighted(float *y, const void *values, size_t at, int half, int d, int heads,
                                const float *weights, int stride, int n) {
    const float *v = (const float *)values + at;
    (void)half;
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < d; i++) y[h * d + i] += weights[(size_t)h * stride + j] * v[j * d + i];
}
#endif

/* Where the keys (which 0; D, PAGE) or values (which 1; PAGE, D) of a head in a page begin. */
static inline size_t place_of(const Model *m, int page, int layer, int which, int head) {
    size_t heads = (((size_t)page * m->layers + layer) * 2 + which) * m->kv_heads + head;
    return heads * PAGE * m->head_dim;
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
 * query heads that share a key head: q and y are (heads, D), scores has room for (heads, room),
 * where room is whole pages. */
static void attend(const Model *m, const void *pool, const int32_t *pages, int layer, int shared,
                   int heads, int position, const float *q, float *scores, int room, float *y) {
    int d = m->head_dim, window = m->layer[layer].window, half = m->whole && HALF;
    int first = window && position + 1 > window ? position + 1 - window : 0;
    for (int page = first / PAGE; page <= position / PAGE; page++)
        dots(q, pool, place_of(m, pages[page], layer, 0, shared), half, d, heads,
             scores + page * PAGE, room);
    float sums[heads];
    for (int h = 0; h < heads; h++)
        sums[h] = weigh(scores + (size_t)h * room + first, position + 1 - first, m->attention_scale);
    memset(y, 0, sizeof(float) * heads * d);
    for (int j = first, end; j <= position; j = end) {
        size_t at = place_of(m, pages[j / PAGE], layer, 1, shared) + (size_t)(j % PAGE) * d;
        end = (j / PAGE + 1) * PAGE <= position ? (j / PAGE + 1) * PAGE : position + 1;
        add_weighted(y, pool, at, half, d, heads, scores + j, room, end - j);
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
static void place(const Model *m, void *pool, const int32_t *pages, int layer, int position,
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
    for (int head = 0; head < 2 * g; head++) { /* keys, then values */
        const float *x = qkv + (h + head) * d;
        int key = head < g, step = key ? PAGE : 1, slot = position % PAGE;
        size_t to = place_of(m, pages[position / PAGE], layer, !key, head % g) +
                    (size_t)slot * (key ? 1 : d);
        for (int i = 0; i < d; i++)
            if (m->whole && HALF)
                ((uint16_t *)pool)[to + (size_t)i * step] = to_half(x[i]);
            else
                ((float *)pool)[to + (size_t)i * step] = x[i];
    }
}
