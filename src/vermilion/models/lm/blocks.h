/* Products with weights of four bits. Part of decode.c.
 *
 * A weight is step * q + least, q from 0 to 15, where step and least are of each 32 inputs of an
 * output: what Q4_0, Q4_1 and Q4_K files hold. Inputs are rounded to bytes with a scale for each
 * 32 of them, so that a large one coarsens only its neighbours (as Q8_1 of the ggml project).
 *
 * P = K / 32 parts of the inputs.
 */

enum { PART = 32, QUADS = PART / 4 };

/* A row as bytes from -127 to 127. scales: (P); then (P) sums of the part, times its scale. */
static void to_bytes(const float *x, int8_t *codes, float *scales, int n) {
    int parts = n / PART;
    for (int part = 0; part < parts; part++, x += PART, codes += PART) {
#if defined(__AVX2__)
        const __m256 positive = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX));
        __m256 top = _mm256_setzero_ps();
        for (int i = 0; i < 4; i++)
            top = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + 8 * i), positive), top);
        __m128 most4 = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
        most4 = _mm_max_ps(most4, _mm_movehl_ps(most4, most4));
        float most = _mm_cvtss_f32(_mm_max_ss(most4, _mm_movehdup_ps(most4)));
        __m256 factor = _mm256_set1_ps(most > 0.0f ? 127.0f / most : 0.0f);
        __m256i whole[4], total = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), factor));
            total = _mm256_add_epi32(total, whole[i]);
        }
        __m256i pairs = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]),
                                           _mm256_packs_epi32(whole[2], whole[3]));
        __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs keeps to halves */
        _mm256_storeu_si256((__m256i *)codes, _mm256_permutevar8x32_epi32(pairs, order));
        __m128i sum4 = _mm_add_epi32(_mm256_castsi256_si128(total),
                                     _mm256_extracti128_si256(total, 1));
        sum4 = _mm_add_epi32(sum4, _mm_shuffle_epi32(sum4, 0x4E));
        int32_t sum = _mm_cvtsi128_si32(_mm_add_epi32(sum4, _mm_shuffle_epi32(sum4, 0xB1)));
#else
        float most = largest(x, PART), factor = most > 0.0f ? 127.0f / most : 0.0f;
        int32_t sum = 0;
        for (int i = 0; i < PART; i++) {
            codes[i] = (int8_t)(int32_t)rintf(x[i] * factor);
            sum += codes[i];
        }
#endif
        scales[part] = most / 127.0f;
        scales[parts + part] = (float)sum * scales[part];
    }
}

/* The step of 32 weights, the least of them, and their numbers from 0 to 15; -1 where they lie on no
 * such grid. */
static float grid(const float *w, uint8_t *codes, float *least) {
    float low = w[0], high = w[0];
    for (int i = 1; i < PART; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    if (!(high - low < INFINITY)) return -1.0f;
    memset(codes, 0, PART);
    *least = low;
    if (high == low) return 0.0f;
    for (int last = 15; last > 0; last--) {
        float factor = (float)last / (high - low);
        int off = 0;
        for (int i = 0; i < PART; i++) {
            float exact = (w[i] - low) * factor, whole = rintf(exact);
            off |= !(fabsf(exact - whole) < 1e-3f);
            codes[i] = (uint8_t)(int32_t)whole;
        }
        if (!off) return (high - low) / (float)last;
    }
    return -1.0f;
}

/* A matrix (out, in) in blocks of 16 outputs, if all of it lies on such grids; whether it does.
 *
 * codes: for each part of the inputs and four inputs of it 32 bytes, 8 outputs times four; the low
 * halves are of outputs 0 to 7, the high ones of 8 to 15. steps: for each part 16 times the step
 * in units of scales, as a whole number of 15 bits, twice. least: likewise, in the same units.
 */
int pack_blocks(const float *w, int out, int in, uint8_t *codes, int32_t *steps, float *least,
                float *scales, int threads) {
    int parts = in / PART, found = in % PART == 0;
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < out; first += BLOCK) {
        int good;
#pragma omp atomic read
        good = found;
        for (int o = 0; good && o < BLOCK && first + o < out; o++) {
            const float *row = w + (size_t)(first + o) * in;
            size_t to = (size_t)(first / BLOCK) * parts;
            float widest = 0.0f;
            for (int part = 0; good && part < parts; part++) {
                uint8_t q[PART];
                float step = grid(row + part * PART, q, &least[(to + part) * BLOCK + o]);
                uint8_t *at = codes + (to + part) * PART * BLOCK / 2 + o % 8 * 4;
                for (int i = 0; i < PART; i++) at[i / 4 * PART + i % 4] |= q[i] << (o / 8 * 4);
                good = step >= 0.0f;
                widest = step > widest ? step : widest;
                memcpy(&steps[(to + part) * BLOCK + o], &step, 4); /* first as they are */
            }
            float unit = widest > 0.0f ? widest / 32767.0f : 1.0f;
            for (int part = 0; good && part < parts; part++) {
                size_t at = (to + part) * BLOCK + o;
                float step;
                memcpy(&step, &steps[at], 4);
                steps[at] = (int32_t)rintf(step / unit) * 0x10001;
                least[at] /= unit;
            }
            scales[first + o] = unit;
        }
        if (!good) {
#pragma omp atomic write
            found = 0;
        }
    }
    return found;
}

/* The weights of 16 outputs as bytes: for each four inputs, 16 times four. */
static void unpack(const uint8_t *codes, int quads, uint8_t *w) {
    for (int i = 0; i < quads; i++)
        for (int j = 0; j < PART; j++) {
            w[2 * PART * i + j] = codes[PART * i + j] & 15;
            w[2 * PART * i + PART + j] = codes[PART * i + j] >> 4;
        }
}

/* Sums of sixteen bits stay small within a part: at most 16 * 15 * 127 in each. */
#if defined(__GNUC__) && defined(__x86_64__)
#define KEEP_ORDER(x) __asm__("" : "+x"(x)) /* else they are added late, from memory */
#else
#define KEEP_ORDER(x) (void)(x)
#endif

/* For `rows` rows and 16 outputs, in units of the outputs' scales: sums[r][o] = Σ_k a[r][k] w[o][k],
 * added part by part, of each the least values first, then the steps. */
static inline __attribute__((always_inline)) void
product_of_blocks(const int8_t *a, const float *scales, int parts, const uint8_t *w,
                  const int32_t *steps, const float *least, int rows, float *sums) {
    int stride = parts * PART;
#if defined(__AVX512BW__)
    __m512 acc[ROWS];
    for (int r = 0; r < rows; r++) acc[r] = _mm512_setzero_ps();
    for (int p = 0; p < parts; p++) {
        __m512i sum[ROWS], step = _mm512_loadu_si512(steps + BLOCK * p);
        __m512 low = _mm512_loadu_ps(least + BLOCK * p);
        for (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_si512();
        for (int q = 0; q < QUADS; q++) {
            __m512i v = _mm512_loadu_si512(w + 4 * BLOCK * (QUADS * p + q));
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, a + r * stride + PART * p + 4 * q, 4);
#if defined(__AVX512VNNI__)
                sum[r] = _mm512_dpbusd_epi32(sum[r], v, _mm512_set1_epi32(four));
#else
                sum[r] = _mm512_add_epi16(sum[r], _mm512_maddubs_epi16(v, _mm512_set1_epi32(four)));
#endif
            }
        }
        for (int r = 0; r < rows; r++) {
#if defined(__AVX512VNNI__)
            __m512i whole = _mm512_mullo_epi32(sum[r], _mm512_srli_epi32(step, 16));
#else
            __m512i whole = _mm512_madd_epi16(sum[r], step);
#endif
            const float *scale = scales + 2 * r * parts + p;
            acc[r] = _mm512_fmadd_ps(low, _mm512_set1_ps(scale[parts]), acc[r]);
            acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(*scale), acc[r]);
        }
    }
    for (int r = 0; r < rows; r++) _mm512_storeu_ps(sums + BLOCK * r, acc[r]);
#elif defined(__AVX2__) && defined(__FMA__)
    __m256 low[ROWS], high[ROWS];
    for (int r = 0; r < rows; r++) low[r] = high[r] = _mm256_setzero_ps();
    for (int p = 0; p < parts; p++) {
        __m256i first[ROWS], second[ROWS];
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++) {
            const __m256i *at = (const __m256i *)(w + 4 * BLOCK * (QUADS * p + q));
            __m256i v = _mm256_loadu_si256(at), u = _mm256_loadu_si256(at + 1);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, a + r * stride + PART * p + 4 * q, 4);
                __m256i b = _mm256_set1_epi32(four);
                __m256i x = _mm256_maddubs_epi16(v, b), y = _mm256_maddubs_epi16(u, b);
                first[r] = q ? _mm256_add_epi16(first[r], x) : x;
                second[r] = q ? _mm256_add_epi16(second[r], y) : y;
                KEEP_ORDER(first[r]);
                KEEP_ORDER(second[r]);
            }
        }
        const __m256i *at = (const __m256i *)(steps + BLOCK * p);
        __m256i v = _mm256_loadu_si256(at), u = _mm256_loadu_si256(at + 1);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const float *scale = scales + 2 * r * parts + p;
            __m256 b = _mm256_broadcast_ss(scale), t = _mm256_broadcast_ss(scale + parts);
            __m256i x = _mm256_madd_epi16(first[r], v), y = _mm256_madd_epi16(second[r], u);
            low[r] = _mm256_fmadd_ps(_mm256_loadu_ps(least + BLOCK * p), t, low[r]);
            high[r] = _mm256_fmadd_ps(_mm256_loadu_ps(least + BLOCK * p + 8), t, high[r]);
            low[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), b, low[r]);
            high[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(y), b, high[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(sums + BLOCK * r, low[r]);
        _mm256_storeu_ps(sums + BLOCK * r + 8, high[r]);
    }
#else
    for (int r = 0; r < rows; r++) {
        float *to = sums + BLOCK * r;
        memset(to, 0, sizeof(float) * BLOCK);
        for (int p = 0; p < parts; p++) {
            int32_t whole[BLOCK] = {0};
            const int8_t *x = a + r * stride + PART * p;
            const float *scale = scales + 2 * r * parts + p;
            for (int k = 0; k < PART; k++)
                for (int o = 0; o < BLOCK; o++)
                    whole[o] += x[k] * w[4 * BLOCK * (QUADS * p + k / 4) + 4 * o + k % 4];
            for (int o = 0; o < BLOCK; o++) {
                to[o] += least[BLOCK * p + o] * scale[parts];
                to[o] += (float)(whole[o] * (steps[BLOCK * p + o] >> 16)) * scale[0];
            }
        }
    }
#endif
}
