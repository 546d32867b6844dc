/* Rows and matrices of any kind. Part of decode.c.
 *
 * N rows, K inputs and O outputs of a matrix.
 */

/* Rows that a matrix is multiplied with, as its kind wants them. */
typedef struct {
    void *codes;       /* (N, padded K): floats, whole numbers of two bytes, or bytes */
    float *scales;     /* (N), or (N, 2, K / 32) */
    uint8_t *unpacked; /* (threads, 16, widest K), for weights of four bits */
    size_t widest;
} Rows;

/* Row i becomes x, (K), for a product with m. */
static void take(const Matrix *m, Rows rows, int i, const float *x) {
    int n = m->in;
    size_t at = (size_t)i * padded(n);
    if (m->steps)
        to_bytes(x, (int8_t *)rows.codes + at, rows.scales + (size_t)i * 2 * (n / PART), n);
    else if (m->scales)
        rows.scales[i] = to_whole(x, (int16_t *)rows.codes + at, n);
    else
        memcpy((float *)rows.codes + at, x, sizeof(float) * n);
}

static inline __attribute__((always_inline)) void
block_of(const Matrix *m, Rows a, const uint8_t *w, int row, int block, int rows, float *sums) {
    int stride = padded(m->in), parts = m->in / PART;
    const float *scales = m->scales + (size_t)block * BLOCK;
    if (m->steps) {
        size_t at = (size_t)block * parts * BLOCK;
        product_of_blocks((int8_t *)a.codes + (size_t)row * stride,
                          a.scales + (size_t)row * 2 * parts, parts, w, m->steps + at,
                          m->least + at, rows, sums);
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < BLOCK; o++) sums[BLOCK * r + o] *= scales[o];
    } else if (m->scales) {
        int32_t whole[ROWS * BLOCK];
        product((int16_t *)a.codes + (size_t)row * stride, stride,
                (const int8_t *)m->codes + (size_t)block * stride * BLOCK, stride / 2, rows, whole);
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < BLOCK; o++)
                sums[BLOCK * r + o] = (float)whole[BLOCK * r + o] * (a.scales[row + r] * scales[o]);
    } else {
        product_of_floats((float *)a.codes + (size_t)row * stride, stride,
                          (const float *)m->codes + (size_t)block * m->in * BLOCK, m->in, rows, sums);
    }
}

/* y = (or +=) a Wᵀ + bias for N rows, (N, out). Shared among the threads. */
static void multiply(const Matrix *m, Rows a, int n, float *y, int add) {
    int blocks = (m->out + BLOCK - 1) / BLOCK, quads = m->in / 4;
    uint8_t *w = a.unpacked + (size_t)omp_get_thread_num() * BLOCK * a.widest;
    for (int from = 0; from < n; from += TILE) {
        int to = from + TILE < n ? from + TILE : n;
#pragma omp for schedule(static)
        for (int block = 0; block < blocks; block++) {
            int first = block * BLOCK;
            int width = m->out - first < BLOCK ? m->out - first : BLOCK;
            float sums[ROWS * BLOCK];
            if (m->steps)
                unpack((const uint8_t *)m->codes + (size_t)block * quads * PART, quads, w);
            for (int row = from, rows; row < to; row += rows) {
                rows = to - row >= ROWS ? ROWS : to - row > 4 ? 4 : to - row;
                switch (rows) { /* a constant number of rows stays in registers */
                case 1: block_of(m, a, w, row, block, 1, sums); break;
                case 2: block_of(m, a, w, row, block, 2, sums); break;
                case 3: block_of(m, a, w, row, block, 3, sums); break;
                case 4: block_of(m, a, w, row, block, 4, sums); break;
                default: block_of(m, a, w, row, block, ROWS, sums);
                }
                for (int r = 0; r < rows; r++) {
                    float *to_row = y + (size_t)(row + r) * m->out + first;
                    for (int o = 0; o < width; o++) {
                        float value = sums[BLOCK * r + o];
                        if (m->bias) value += m->bias[first + o];
                        to_row[o] = add ? to_row[o] + value : value;
                    }
                }
            }
        }
    }
}
