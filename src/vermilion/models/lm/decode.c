/* A Transformer language model, decoding on a CPU in float32, or in whole numbers ("int8"). Read net.py
 * first: this is the same network, computed for many sequences side by side with nothing in
 * between.
 *
 * Every number of a token is made by the same operations in the same order, whatever stands
 * beside it in the batch, however a text is cut into passes, and with any number of threads.
 * Products with weights in bytes are of whole numbers and have no rounding at all; those with
 * weights of four bits have none within 32 inputs, whose sums are added in their order. Compile
 * without -ffast-math and with -ffp-contract=off: both would let two copies of a loop differ in
 * their last digits.
 *
 * N tokens of this pass, C features, F features within the feed-forward, H heads, G key/value
 * heads, D head size, V vocabulary, K inputs of a matrix.
 */

/* GCC would take the ends of `exponential` apart from its middle and compute all three each time. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-thread-jumps")
#endif

#include "products.h"

#include "blocks.h"

#if defined(_OPENMP)
extern int omp_get_thread_num(void);
#else
static int omp_get_thread_num(void) { return 0; }
#endif

#include "multiply.h"

#include "attention.h"

typedef struct {
    float *x;       /* (N, C) */
    float *wide;    /* (N, of qkv or up) */
    float *seen;    /* (N, C or H*D) */
    float *scores;  /* (threads, H/G, room) */
    float *scales;  /* (N, 2, widest / 32), or (N) where that is more */
    void *codes;    /* (N, widest), of at most four bytes */
    void *unpacked; /* (threads, 16, widest), bytes */
    int64_t widest; /* at least the inputs of any matrix */
} Scratch;

/* What lies between the two products of the feed-forward, (F or 2F) in place. */
static void think(const Model *m, float *wide) {
    int f = m->inner;
    activate(wide, wide, f, m->activation);
    if (m->gated)
        for (int i = 0; i < f; i++) wide[i] *= wide[f + i];
}

/* Logits after some tokens of a pass over N tokens of several sequences.
 *
 * ids, positions, owner: (N); the tokens of a sequence stand in order. pages: (sequences, most)
 * page numbers. wanted: (last) numbers of tokens. logits: (last, V). room: tokens of the longest
 * text, in whole pages. */
void forward(const Model *m, void *pool, int n, const int32_t *ids, const int32_t *positions,
             const int32_t *owner, const int32_t *pages, int most, int last, const int32_t *wanted,
             float *logits, Scratch s, int room, int threads) {
    int c = m->size, h = m->heads, d = m->head_dim, qkv = (h + 2 * m->kv_heads) * d;
    int up = m->gated ? 2 * m->inner : m->inner, seen = c > h * d ? c : h * d;
    Rows rows = {s.codes, s.scales, s.unpacked, (size_t)s.widest};
    int share = h / m->kv_heads; /* query heads that share a key head are taken together, */
    int together = n * m->kv_heads < 4 * threads ? 1 : share; /* unless threads would wait */
#pragma omp parallel num_threads(threads)
    {
        float *scores =
            s.scores + (size_t)omp_get_thread_num() * room * share;
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
                take(&l->qkv, rows, i, y);
            }
            multiply(&l->qkv, rows, n, s.wide, 0);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++)
                place(m, pool, pages + (size_t)owner[i] * most, layer, positions[i],
                      s.wide + (size_t)i * qkv);
#pragma omp for schedule(static)
            for (int item = 0; item < n * (h / together); item++) {
                int i = item % n, head = item / n * together; /* a head's pages are shared */
                attend(m, pool, pages + (size_t)owner[i] * most, layer, head / share, together,
                       positions[i], s.wide + (size_t)i * qkv + head * d, scores, room,
                       s.seen + (size_t)i * seen + head * d);
            }
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) take(&l->attention_out, rows, i, s.seen + (size_t)i * seen);
            multiply(&l->attention_out, rows, n, s.x, 1);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) {
                float *y = s.seen + (size_t)i * seen;
                normalise(s.x + (size_t)i * c, y, c, l->feed_forward_norm,
                          l->feed_forward_norm_bias, m->norm, m->eps);
                take(&l->up, rows, i, y);
            }
            multiply(&l->up, rows, n, s.wide, 0);
#pragma omp for schedule(static)
            for (int i = 0; i < n; i++) {
                think(m, s.wide + (size_t)i * up);
                take(&l->down, rows, i, s.wide + (size_t)i * up);
            }
            multiply(&l->down, rows, n, s.x, 1);
        }
#pragma omp for schedule(static)
        for (int i = 0; i < last; i++) {
            float *y = s.seen + (size_t)i * seen;
            normalise(s.x + (size_t)wanted[i] * c, y, c, m->final_norm, m->final_norm_bias, m->norm,
                      m->eps);
            take(&m->head, rows, i, y);
        }
        multiply(&m->head, rows, last, logits, 0);
    }
}
