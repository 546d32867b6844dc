/* What a network of pictures does to its feature maps between products: group normalisation with a
 * SiLU behind it, and gates of GELU, each with its gradient. Maps lie as (N, T, C).
 *
 * Every number is made by the same operations in the same order with any number of threads, and
 * whatever else is in the batch.
 *
 * N pictures, T places, C channels, G groups of channels, F features.
 */

#include "lanes.h"

enum { PLACES = 64 };

typedef struct {
    int64_t batch, places, channels, groups;
    int64_t apart; /* of the pictures' rows of gains and shifts: C, or 0 where all share one */
    float eps;
    int32_t silu;
} Norm;

int lanes(void) { return LANES; }

static int64_t parts_of(const Norm *s) { return (s->places + PLACES - 1) / PLACES; }

/* How many numbers of room the functions below need. */
int64_t norm_room(const Norm *s) {
    return (2 * parts_of(s) + 3) * s->batch * s->channels;
}

/* The mean of each group over the places of a part, at each of its channels, and the sum of squares
 * around it at each channel. */
static void look(const Norm *s, const float *x, int64_t places, float *mean, float *squares) {
    int64_t size = s->channels / s->groups;
    for (int64_t c = 0; c < s->channels; c += LANES) {
        floats total = all(0.0f);
        for (int64_t t = 0; t < places; t++) total += load(x + t * s->channels + c);
        store(mean + c, total);
    }
    for (int64_t first = 0; first < s->channels; first += size) {
        float total = 0.0f;
        for (int64_t c = first; c < first + size; c++) total += mean[c];
        total /= (float)(size * places);
        for (int64_t c = first; c < first + size; c++) mean[c] = total;
    }
    for (int64_t c = 0; c < s->channels; c += LANES) {
        floats around = load(mean + c), total = all(0.0f);
        for (int64_t t = 0; t < places; t++) {
            floats away = load(x + t * s->channels + c) - around;
            total += away * away;
        }
        store(squares + c, total);
    }
}

/* Join what was seen of the parts of a picture (Chan et al. 1983, eq. 2.1): a group's mean and
 * 1 / sqrt(variance + eps). */
static void join(const Norm *s, const float *seen, float *mean, float *inverse) {
    int64_t size = s->channels / s->groups, parts = parts_of(s);
    for (int64_t g = 0; g < s->groups; g++) {
        double count = 0, middle = 0, squares = 0;
        for (int64_t p = 0; p < parts; p++) {
            const float *means = seen + 2 * p * s->channels, *around = means + s->channels;
            double n = (double)(size * least(PLACES, s->places - p * PLACES));
            double away = means[g * size] - middle, own = 0;
            for (int64_t c = g * size; c < (g + 1) * size; c++) own += around[c];
            squares += own + away * away * count * n / (count + n);
            middle += away * n / (count + n);
            count += n;
        }
        mean[g] = (float)middle;
        inverse[g] = (float)(1.0 / sqrt(squares / count + s->eps));
    }
}

/* What x is multiplied by, what is added, and the mean, at each channel of a picture: (3, C). */
static void line(const Norm *s, int64_t n, const float *gain, const float *shift, const float *mean,
                 const float *inverse, float *to) {
    int64_t size = s->channels / s->groups;
    gain += n * s->apart, shift += n * s->apart;
    for (int64_t c = 0; c < s->channels; c++) {
        float factor = inverse[n * s->groups + c / size] * gain[c];
        to[c] = factor;
        to[s->channels + c] = shift[c] - mean[n * s->groups + c / size] * factor;
        to[2 * s->channels + c] = mean[n * s->groups + c / size];
    }
}

static inline floats sigmoid(floats x) { return 1.0f / (1.0f + exponential(-x)); }

/* y = silu(gain (x - mean) / sqrt(variance + eps) + shift), of x (N, T, C), with mean and inverse
 * (N, G) for the gradient; C is a multiple of LANES. */
void norm(const Norm *s, const float *x, const float *gain, const float *shift, float *y,
          float *mean, float *inverse, float *room, int threads) {
    int64_t parts = parts_of(s), channels = s->channels;
    float *lines = room + 2 * s->batch * parts * channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < s->batch * parts; i++) {
        int64_t first = i % parts * PLACES;
        float *seen = room + 2 * i * channels;
        look(s, x + (i / parts * s->places + first) * channels, least(PLACES, s->places - first),
             seen, seen + channels);
    }
    for (int64_t n = 0; n < s->batch; n++) {
        float *own = mean + n * s->groups;
        join(s, room + 2 * n * parts * channels, own, inverse + n * s->groups);
        line(s, n, gain, shift, mean, inverse, lines + 3 * n * channels);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < s->batch * parts; i++) {
        int64_t first = i % parts * PLACES, last = least(first + PLACES, s->places);
        const float *factor = lines + 3 * (i / parts) * channels, *add = factor + channels;
        for (int64_t t = i / parts * s->places + first; t < i / parts * s->places + last; t++)
            for (int64_t c = 0; c < channels; c += LANES) {
                floats z = load(x + t * channels + c) * load(factor + c) + load(add + c);
                if (s->silu) z *= sigmoid(z);
                store(y + t * channels + c, z);
            }
    }
}

/* The gradients of `norm`: dx (N, T, C), and summed over the places, at (N, C), those of the shift
 * and of the gain. */
void norm_backward(const Norm *s, const float *x, const float *dy, const float *gain,
                   const float *shift, const float *mean, const float *inverse, float *dx,
                   float *d_gain, float *d_shift, float *room, int threads) {
    int64_t parts = parts_of(s), channels = s->channels, size = channels / s->groups;
    float *lines = room + 2 * s->batch * parts * channels;
    for (int64_t n = 0; n < s->batch; n++)
        line(s, n, gain, shift, mean, inverse, lines + 3 * n * channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < s->batch * parts; i++) {
        int64_t first = i % parts * PLACES, places = least(PLACES, s->places - first);
        int64_t at = (i / parts * s->places + first) * channels;
        const float *factor = lines + 3 * (i / parts) * channels, *add = factor + channels;
        float *sums = room + 2 * i * channels, *products = sums + channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            floats f = load(factor + c), b = load(add + c), middle = load(add + channels + c);
            floats total = all(0.0f), with_x = all(0.0f);
            for (int64_t t = 0; t < places; t++) {
                int64_t j = at + t * channels + c;
                floats own = load(x + j), dz = load(dy + j);
                if (s->silu) {
                    floats z = own * f + b, half = sigmoid(z);
                    dz *= half + z * half * (1.0f - half);
                }
                store(dx + j, dz);
                total += dz;
                with_x += dz * (own - middle);
            }
            store(sums + c, total);
            store(products + c, with_x);
        }
    }
    /* dx = factor dz + (slope x + middle), which are the same for a group's channels. */
    for (int64_t n = 0; n < s->batch; n++) {
        float *factor = lines + 3 * n * channels, *both = room + 2 * n * parts * channels;
        for (int64_t g = 0; g < s->groups; g++) {
            double sums = 0, products = 0, count = (double)(size * s->places);
            double middle = mean[n * s->groups + g], spread = inverse[n * s->groups + g];
            for (int64_t c = g * size; c < (g + 1) * size; c++) {
                double total = 0, with_x = 0;
                for (int64_t p = 0; p < parts; p++) {
                    total += both[2 * p * channels + c];
                    with_x += both[(2 * p + 1) * channels + c];
                }
                d_shift[n * channels + c] = (float)total;
                d_gain[n * channels + c] = (float)(with_x * spread);
                sums += total * gain[n * s->apart + c];
                products += d_gain[n * channels + c] * (double)gain[n * s->apart + c];
            }
            double slope = -products * spread * spread / count;
            for (int64_t c = g * size; c < (g + 1) * size; c++) {
                both[c] = (float)slope;
                both[channels + c] = (float)(-sums * spread / count - slope * middle);
                factor[c] = (float)spread * gain[n * s->apart + c];
            }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < s->batch * parts; i++) {
        int64_t n = i / parts, first = i % parts * PLACES, last = least(first + PLACES, s->places);
        const float *factor = lines + 3 * n * channels, *slope = room + 2 * n * parts * channels;
        for (int64_t t = n * s->places + first; t < n * s->places + last; t++)
            for (int64_t c = 0; c < channels; c += LANES) {
                int64_t j = t * channels + c;
                floats rest = load(slope + c) * load(x + j) + load(slope + channels + c);
                store(dx + j, load(factor + c) * load(dx + j) + rest);
            }
    }
}

/* The share of a normal distribution below x (Abramowitz & Stegun 1964, 7.1.26): to 1e-7. `bell`
 * becomes e^(-x²/2). */
static inline floats below(floats x, floats *bell) {
    floats size = larger(x, -x), t = 1.0f / (1.0f + 0.231641888f * size);
    floats p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    *bell = exponential(-0.5f * x * x);
    floats rest = 0.5f * p * t * *bell;
    return pick(x > all(0.0f), 1.0f - rest, rest);
}

/* y (N, F) = (a + bias) gelu(b + bias) where h (N, 2F) is [a, b]; bias (2F) or NULL. F is a multiple
 * of LANES. */
void gate(const float *h, const float *bias, float *y, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < size; i += LANES) {
            floats a = load(h + 2 * t * size + i), b = load(h + (2 * t + 1) * size + i), bell;
            if (bias) a += load(bias + i), b += load(bias + size + i);
            store(y + t * size + i, a * b * below(b, &bell));
        }
}

/* dh (N, 2F), the gradient of `gate`. */
void gate_backward(const float *h, const float *bias, const float *dy, float *dh, int64_t rows,
                   int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < size; i += LANES) {
            floats a = load(h + 2 * t * size + i), b = load(h + (2 * t + 1) * size + i), bell;
            floats d = load(dy + t * size + i);
            if (bias) a += load(bias + i), b += load(bias + size + i);
            floats share = below(b, &bell);
            store(dh + 2 * t * size + i, d * b * share);
            store(dh + (2 * t + 1) * size + i, d * a * (share + b * bell * 0.398942280f));
        }
}
