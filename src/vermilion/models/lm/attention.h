/* Attention over pages of keys and values. Part of decode.c.
 *
 * H heads, G key/value heads, D head size.
 */

enum { PAGE = 16 }; /* tokens */

/* In int8, keys and values are kept in half precision where the processor converts them. */
#if defined(__AVX2__) && defined(__F16C__)
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

static inline void dots(const float *q, int heads, const float *k, int n, float *to, int stride) {
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
                                const float *v, int n) {
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++) y[h * n + i] += weights[h * stride] * v[i];
}

#if defined(__AVX2__) && defined(__F16C__)
static inline void keep_half(uint16_t *to, const float *from, int n) {
    int i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
    for (; i < n; i++) to[i] = _cvtss_sh(from[i], 0);
}

static inline __m256 eight(const uint16_t *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

/* Sum of eight lanes, in a fixed order. */
static inline float total(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* 64 numbers of a key are turned into floats once for all query heads that share it. */
static inline void dots_half(const float *q, int heads, const uint16_t *k, int n, float *to,
                             int stride) {
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
static inline void add_half(float *y, int heads, const float *weights, int stride,
                            const uint16_t *v, int n) {
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
static void keep_half(uint16_t *to, const float *from, int n) { (void)to, (void)from, (void)n; }

static void dots_half(const float *q, int heads, const uint16_t *k, int n, float *to, int stride) {
    (void)q, (void)heads, (void)k, (void)n, (void)to, (void)stride;
}

static void add_half(float *y, int heads, const float *weights, int stride, const uint16_t *v,
                     int n) {
    (void)y, (void)heads, (void)weights, (void)stride, (void)v, (void)n;
}
#endif

/* Where the keys (which 0) or values (which 1) of a head in a page begin: (PAGE, D). */
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
 * query heads that share a key head: q and y are (heads, D), scores has room for (heads, context). */
static void attend(const Model *m, void *pool, const int32_t *pages, int layer, int shared,
                   int heads, int position, const float *q, float *scores, int context, float *y) {
    int d = m->head_dim, window = m->layer[layer].window, half = m->whole && HALF;
    int first = window && position + 1 > window ? position + 1 - window : 0;
    for (int j = first; j <= position;) {
        size_t keys = place_of(m, pages[j / PAGE], layer, 0, shared);
        int end = (j / PAGE + 1) * PAGE <= position ? (j / PAGE + 1) * PAGE : position + 1;
        for (; j < end; j++) {
            size_t k = keys + (size_t)(j % PAGE) * d;
            if (half)
                dots_half(q, heads, (uint16_t *)pool + k, d, scores + j, context);
            else
                dots(q, heads, (float *)pool + k, d, scores + j, context);
        }
    }
    float sums[heads];
    for (int h = 0; h < heads; h++)
        sums[h] = weigh(scores + (size_t)h * context + first, position + 1 - first,
                        m->attention_scale);
    memset(y, 0, sizeof(float) * heads * d);
    for (int j = first; j <= position;) {
        size_t values = place_of(m, pages[j / PAGE], layer, 1, shared);
        int end = (j / PAGE + 1) * PAGE <= position ? (j / PAGE + 1) * PAGE : position + 1;
        for (; j < end; j++) {
            size_t v = values + (size_t)(j % PAGE) * d;
            if (half)
                add_half(y, heads, scores + j, context, (uint16_t *)pool + v, d);
            else
                add_weighted(y, heads, scores + j, context, (float *)pool + v, d);
        }
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
        size_t to = place_of(m, pages[position / PAGE], layer, head / g, head % g) +
                    (size_t)(position % PAGE) * d;
        if (m->whole && HALF)
            keep_half((uint16_t *)pool + to, x, d);
        else
            memcpy((float *)pool + to, x, sizeof(float) * d);
    }
}
