/* Sums of products of gathered columns with packed int8 weights, rescaled: the inner loop of convolution and fully
 * connected layers. See qc_internal.h for the layouts of columns and README.md for those of weights. */
#include "qc_internal.h"

#if defined(QC_PORTABLE) || defined(QC_MVE)
/* Two columns by two channels: each code that is loaded is used twice. The second of a lone one repeats the first. */
void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    for (int32_t i = 0; i < count; i += 2) {
        const int32_t next = ((i + 1) < count) ? 1 : 0;
        const int8_t *x0 = (const int8_t *)columns + (i * k);
        const int8_t *x1 = x0 + (next * k);
        for (int32_t c = 0; c < channels; c += 2) {
            const int32_t other = ((c + 1) < channels) ? 1 : 0;
            const int8_t *w0 = (const int8_t *)weights + (c * k);
            const int8_t *w1 = w0 + (other * k);
            int32_t acc00 = rescale->bias[first + c];
            int32_t acc10 = rescale->bias[first + c + other];
            int32_t acc01 = acc00;
            int32_t acc11 = acc10;
            for (int32_t j = 0; j < k; j++) {
                acc00 += w0[j] * x0[j];
                acc01 += w0[j] * x1[j];
                acc10 += w1[j] * x0[j];
                acc11 += w1[j] * x1[j];
            }
            int8_t *out = y + (i * stride) + c;
            out[0] = qc_finish(acc00, rescale, first + c);
            out[other] = qc_finish(acc10, rescale, first + c + other);
            out += next * stride;
            out[0] = qc_finish(acc01, rescale, first + c);
            out[other] = qc_finish(acc11, rescale, first + c + other);
        }
    }
}
#endif

#if defined(QC_DSP)
/* Sums of one or three columns (of a, of b) for a pair of channels. */
typedef struct {
    int32_t a[3];
    int32_t b[3];
} qc_sums;

/* One column: 10 instructions for 8 products. */
static inline void qc_sum_one(const qc_word *x, const qc_word *w, int32_t quads, qc_sums *sums)
{
    int32_t a = sums->a[0];
    int32_t b = sums->b[0];
    const qc_word *end = w + (2 * quads);
    while (w != end) {
        uint32_t w0, w1, x0, x1, even;
        __asm__("ldrd %[w0], %[w1], [%[w]], #8\n\t"
                "ldrd %[x0], %[x1], [%[x]], #8\n\t"
                "sxtb16 %[even], %[w0]\n\t"
                "sxtb16 %[w0], %[w0], ror #8\n\t"
                "smlad %[a], %[even], %[x0], %[a]\n\t"
                "smlad %[b], %[w0], %[x0], %[b]\n\t"
                "sxtb16 %[even], %[w1]\n\t"
                "sxtb16 %[w1], %[w1], ror #8\n\t"
                "smlad %[a], %[even], %[x1], %[a]\n\t"
                "smlad %[b], %[w1], %[x1], %[b]"
                : [a] "+r"(a), [b] "+r"(b), [x] "+r"(x), [w] "+r"(w), [w0] "=&r"(w0), [w1] "=&r"(w1), [x0] "=&r"(x0),
                  [x1] "=&r"(x1), [even] "=&r"(even)
                :
                : "memory");
    }
    sums->a[0] = a;
    sums->b[0] = b;
}

/* Two k of three interleaved columns and two channels: 10 instructions for 12 products. */
#define QC_STEP                          \
    "ldr %[odd], [%[w]], #4\n\t"         \
    "ldm %[x]!, {r4, r5, r6}\n\t"        \
    "sxtb16 %[even], %[odd]\n\t"         \
    "sxtb16 %[odd], %[odd], ror #8\n\t"  \
    "smlad %[a0], %[even], r4, %[a0]\n\t" \
    "smlad %[b0], %[odd], r4, %[b0]\n\t" \
    "smlad %[a1], %[even], r5, %[a1]\n\t" \
    "smlad %[b1], %[odd], r5, %[b1]\n\t" \
    "smlad %[a2], %[even], r6, %[a2]\n\t" \
    "smlad %[b2], %[odd], r6, %[b2]\n\t"
#define QC_OPERANDS                                                                                                   \
    [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [b0] "+r"(b0), [b1] "+r"(b1), [b2] "+r"(b2), [x] "+r"(x), [w] "+r"(w), \
        [even] "=&r"(even), [odd] "=&r"(odd)

/* A function of its own: the loop needs all 14 registers. */
__attribute__((noinline)) static void qc_sum_three(const qc_word *x, const qc_word *w, int32_t quads, qc_sums *sums)
{
    int32_t a0 = sums->a[0];
    int32_t a1 = a0;
    int32_t a2 = a0;
    int32_t b0 = sums->b[0];
    int32_t b1 = b0;
    int32_t b2 = b0;
    uint32_t even, odd;
    const qc_word *end = w + (2 * quads);
    if ((quads % 2) != 0) {
        __asm__(QC_STEP QC_STEP : QC_OPERANDS : : "r4", "r5", "r6", "memory");
    }
    if (w != end) {
        __asm__("1:\n\t" QC_STEP QC_STEP QC_STEP QC_STEP "cmp %[w], %[end]\n\t"
                "bne 1b"
                : QC_OPERANDS
                : [end] "r"(end)
                : "r4", "r5", "r6", "cc", "memory");
    }
    sums->a[0] = a0;
    sums->a[1] = a1;
    sums->a[2] = a2;
    sums->b[0] = b0;
    sums->b[1] = b1;
    sums->b[2] = b2;
}

/* n results of one channel, `stride` apart. Where the high word suffices and int8's ends are the only limits:
 * SMMUL, ASR, ADD, SSAT with ASR #1. */
static inline void qc_finish_column(const int32_t *acc, int32_t n, const qc_rescale_params *rescale, int32_t channel,
                                    int8_t *y, int32_t stride)
{
#if QC_PROFILE == QC_PROFILE_DYADIC
    if (rescale->flags == (QC_PLAIN_SHIFTS | QC_FULL_RANGE)) {
        const int32_t m = rescale->multiplier[channel];
        const int32_t shift = rescale->shift[channel];
        const int32_t offset = (2 * rescale->zero_point) + 1;
        for (int32_t i = 0; i < n; i++) {
            *y = (int8_t)qc_half_saturated((qc_mul_high(acc[i], m) >> shift) + offset);
            y += stride;
        }
        return;
    }
#endif
    for (int32_t i = 0; i < n; i++) {
        *y = qc_finish(acc[i], rescale, channel);
        y += stride;
    }
}

void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    const int32_t quads = (k + 3) / 4;
    const qc_word *x = (const qc_word *)columns;
    while (count != 0) {
        const int32_t n = (count >= 3) ? 3 : 1;
        const qc_word *w = (const qc_word *)weights;
        for (int32_t c = 0; c < channels; c += 2) {
            const int32_t other = ((c + 1) < channels) ? 1 : 0;
            qc_sums sums;
            sums.a[0] = rescale->bias[first + c];
            sums.b[0] = rescale->bias[first + c + other];
            if (n == 3) {
                qc_sum_three(x, w, quads, &sums);
            } else {
                qc_sum_one(x, w, quads, &sums);
            }
            qc_finish_column(sums.a, n, rescale, first + c, y + c, stride);
            if (other != 0) {
                qc_finish_column(sums.b, n, rescale, first + c + 1, y + c + 1, stride);
            }
            w += 2 * quads;
        }
        x += 2 * quads * n;
        y += n * stride;
        count -= n;
    }
}
#endif
