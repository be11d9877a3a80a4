/* Sums of products of gathered columns with packed int8 weights, rescaled: the inner loop of convolution and fully
 * connected layers. See qc_internal.h for the layouts of columns and README.md for those of weights. */
#include "qc_sums.h"

#if defined(QC_PORTABLE)
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
/* Two k of three interleaved columns and two channels: 10 instructions for 12 products. */
#define QC_STEP                    \
    "ldr lr, [r1], #4\n\t"         \
    "ldm r0!, {r4, r5, r6}\n\t"    \
    "sxtb16 r3, lr\n\t"            \
    "sxtb16 lr, lr, ror #8\n\t"    \
    "smlad r7, r3, r4, r7\n\t"     \
    "smlad r10, lr, r4, r10\n\t"   \
    "smlad r8, r3, r5, r8\n\t"     \
    "smlad r11, lr, r5, r11\n\t"   \
    "smlad r9, r3, r6, r9\n\t"     \
    "smlad r12, lr, r6, r12\n\t"

/* Three columns and all pairs of channels. The loop needs all 14 registers, so what it does not need lies here.
 * The numbers in the code are offsets in this struct. */
typedef struct {
    const qc_word *x;          /* 0 */
    const qc_word *w;          /* 4 */
    int32_t pair_bytes;        /* 8: weights of a pair of channels */
    const int32_t *bias;       /* 12 */
    const int32_t *multiplier; /* 16 */
    const int8_t *shift;       /* 20 */
    int8_t *y;                 /* 24 */
    int32_t stride;            /* 28: from one column's results to the next */
    int32_t offset;            /* 32: 2 * zero_point + 1 */
    int32_t pairs;             /* 36 */
    int32_t *sums;             /* 40: if not NULL, the six sums of one pair go here instead of being rescaled */
} qc_tile;

/* r0 x, r1 w, r2 its end, r7-r9 sums of the first channel, r10-r12 of the second. Rescaling, where the high word is
 * enough and int8's ends are the only limits: SMMUL, ASR, ADD, SSAT with ASR #1. */
__attribute__((noinline)) static void qc_run_tile(qc_tile *tile)
{
    register qc_tile *t __asm__("r0") = tile;
    __asm__ volatile("push {r0}\n\t"
                     "ldr r1, [r0, #4]\n\t"
                     "1:\n\t"
                     "ldr r3, [r0, #8]\n\t"
                     "ldr r4, [r0, #12]\n\t"
                     "add r2, r1, r3\n\t"
                     "ldrd r7, r10, [r4], #8\n\t"
                     "str r4, [r0, #12]\n\t"
                     "ldr r0, [r0]\n\t"
                     "mov r8, r7\n\t"
                     "mov r9, r7\n\t"
                     "mov r11, r10\n\t"
                     "mov r12, r10\n\t"
                     "lsls r3, r3, #28\n\t" /* pair_bytes is 8 a step of four k: carry and sign tell steps mod 4 */
                     "bcs 6f\n\t"
                     "bmi 5f\n\t"
                     "2:\n\t" QC_STEP QC_STEP "3:\n\t" QC_STEP QC_STEP "4:\n\t" QC_STEP QC_STEP "5:\n\t" QC_STEP QC_STEP
                     "cmp r1, r2\n\t"
                     "bne 2b\n\t"
                     "ldr r0, [sp]\n\t"
                     "ldr r2, [r0, #40]\n\t"
                     "cmp r2, #0\n\t"
                     "bne 7f\n\t"
                     "ldr r2, [r0, #16]\n\t"
                     "ldrd r3, r4, [r2], #8\n\t"
                     "str r2, [r0, #16]\n\t"
                     "ldr r2, [r0, #20]\n\t"
                     "ldrsb r5, [r2], #1\n\t"
                     "ldrsb r6, [r2], #1\n\t"
                     "str r2, [r0, #20]\n\t"
                     "ldr r2, [r0, #32]\n\t"
                     "smmul r7, r7, r3\n\t"
                     "smmul r8, r8, r3\n\t"
                     "smmul r9, r9, r3\n\t"
                     "smmul r10, r10, r4\n\t"
                     "smmul r11, r11, r4\n\t"
                     "smmul r12, r12, r4\n\t"
                     "asr r7, r7, r5\n\t"
                     "asr r8, r8, r5\n\t"
                     "asr r9, r9, r5\n\t"
                     "asr r10, r10, r6\n\t"
                     "asr r11, r11, r6\n\t"
                     "asr r12, r12, r6\n\t"
                     "add r7, r7, r2\n\t"
                     "add r8, r8, r2\n\t"
                     "add r9, r9, r2\n\t"
                     "add r10, r10, r2\n\t"
                     "add r11, r11, r2\n\t"
                     "add r12, r12, r2\n\t"
                     "ssat r7, #8, r7, asr #1\n\t"
                     "ssat r8, #8, r8, asr #1\n\t"
                     "ssat r9, #8, r9, asr #1\n\t"
                     "ssat r10, #8, r10, asr #1\n\t"
                     "ssat r11, #8, r11, asr #1\n\t"
                     "ssat r12, #8, r12, asr #1\n\t"
                     "ldrd r2, r3, [r0, #24]\n\t"
                     "add r4, r2, r3\n\t"
                     "strb r7, [r2]\n\t"
                     "strb r10, [r2, #1]\n\t"
                     "strb r8, [r4]\n\t"
                     "strb r11, [r4, #1]\n\t"
                     "add r4, r4, r3\n\t"
                     "strb r9, [r4]\n\t"
                     "strb r12, [r4, #1]\n\t"
                     "add r2, r2, #2\n\t"
                     "str r2, [r0, #24]\n\t"
                     "ldr r2, [r0, #36]\n\t"
                     "subs r2, r2, #1\n\t"
                     "str r2, [r0, #36]\n\t"
                     "bne 1b\n\t"
                     "b 8f\n\t"
                     "6:\n\t"
                     "bmi 3b\n\t"
                     "b 4b\n\t"
                     "7:\n\t"
                     "stm r2, {r7, r8, r9, r10, r11, r12}\n\t"
                     "8:\n\t"
                     "add sp, sp, #4"
                     : "+r"(t)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

/* n results of one channel, `stride` apart. */
static void qc_finish_column(const int32_t *acc, int32_t n, const qc_rescale_params *rescale, int32_t channel, int8_t *y,
                             int32_t stride)
{
    for (int32_t i = 0; i < n; i++) {
        *y = qc_finish(acc[i], rescale, channel);
        y += stride;
    }
}

static void qc_three_columns(const qc_word *x, int32_t quads, const qc_word *w, const qc_rescale_params *rescale,
                             int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    int32_t done = 0;
    qc_tile tile = {x, w, 8 * quads, rescale->bias + first, 0, 0, y, stride, 0, channels / 2, 0};
    if (qc_is_quick(rescale) && (tile.pairs != 0)) {
        tile.multiplier = rescale->multiplier + first;
        tile.shift = rescale->shift + first;
        tile.offset = (2 * rescale->zero_point) + 1;
        qc_run_tile(&tile);
        done = channels & ~1;
    }
    for (; done < channels; done += 2) {
        const int32_t other = ((done + 1) < channels) ? 1 : 0;
        const int32_t bias[2] = {rescale->bias[first + done], rescale->bias[first + done + other]};
        int32_t sums[6];
        tile.w = w + (done * quads);
        tile.bias = bias;
        tile.sums = sums;
        qc_run_tile(&tile);
        qc_finish_column(sums, 3, rescale, first + done, y + done, stride);
        if (other != 0) {
            qc_finish_column(sums + 3, 3, rescale, first + done + 1, y + done + 1, stride);
        }
    }
}

static void qc_one_column(const qc_word *x, int32_t quads, const qc_word *w, const qc_rescale_params *rescale,
                          int32_t first, int32_t channels, int8_t *y)
{
    const int quick = qc_is_quick(rescale);
    const int32_t offset = (2 * rescale->zero_point) + 1;
    for (int32_t c = 0; c < channels; c += 2) {
        const int32_t channel = first + c;
        const int32_t other = ((c + 1) < channels) ? 1 : 0;
        int32_t sums[2] = {rescale->bias[channel], rescale->bias[channel + other]};
        qc_sum_one(x, w, quads, sums);
        for (int32_t i = 0; i <= other; i++) {
            if (quick) {
                const int32_t high = qc_mul_high(sums[i], rescale->multiplier[channel + i]);
                const int32_t v = qc_half_saturated((high >> rescale->shift[channel + i]) + offset);
                y[c + i] = (int8_t)qc_clip(v, rescale->qmin, rescale->qmax);
            } else {
                y[c + i] = qc_finish(sums[i], rescale, channel + i);
            }
        }
        w += 2 * quads;
    }
}

void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    const int32_t quads = (k + 3) / 4;
    const qc_word *x = (const qc_word *)columns;
    const qc_word *w = (const qc_word *)weights;
    for (; count >= 3; count -= 3) {
        qc_three_columns(x, quads, w, rescale, first, channels, y, stride);
        if (qc_is_quick(rescale)) {
            qc_limit(y, 3, channels & ~1, stride, rescale);
        }
        x += 6 * quads;
        y += 3 * stride;
    }
    for (; count != 0; count--) {
        qc_one_column(x, quads, w, rescale, first, channels, y);
        x += 2 * quads;
        y += stride;
    }
}
#endif
