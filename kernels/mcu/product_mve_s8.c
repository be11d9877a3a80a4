/* As product_s8.c, for Helium. */
#include "qc_sums.h"

#if defined(QC_MVE)
/* Sixteen k of two columns and four channels: 14 instructions for 128 products. */
#define QC_STEP                     \
    "vldrb.8 q0, [r1], #16\n\t"     \
    "vldrb.8 q1, [r3], #16\n\t"     \
    "vldrb.8 q2, [r5], #16\n\t"     \
    "vmladava.s8 r0, q0, q2\n\t"    \
    "vmladava.s8 r8, q1, q2\n\t"    \
    "vldrb.8 q3, [r5], #16\n\t"     \
    "vmladava.s8 r2, q0, q3\n\t"    \
    "vmladava.s8 r10, q1, q3\n\t"   \
    "vldrb.8 q4, [r5], #16\n\t"     \
    "vmladava.s8 r4, q0, q4\n\t"    \
    "vmladava.s8 r12, q1, q4\n\t"   \
    "vldrb.8 q5, [r5], #16\n\t"     \
    "vmladava.s8 r6, q0, q5\n\t"    \
    "vmladava.s8 lr, q1, q5\n\t"

/* The last k of one channel, with P0 holding how many: lanes of the columns beyond them are 0. */
#define QC_LAST(first, second)           \
    "vpst\n\t"                           \
    "vldrbt.u8 q2, [r5]\n\t"             \
    "add r5, r5, r11\n\t"                \
    "vmladava.s8 " first ", q0, q2\n\t"  \
    "vmladava.s8 " second ", q1, q2\n\t"

/* Two columns and all fours of channels. The numbers in the code are offsets in this struct. */
typedef struct {
    const int8_t *x;           /* 0 */
    int32_t k;                 /* 4 */
    const int8_t *w;           /* 8 */
    const int8_t *shift;       /* 12 */
    int32_t zero_point;        /* 16 */
    int32_t fours;             /* 20 */
    int32_t qmin;              /* 24 */
    int32_t qmax;              /* 28 */
    const int32_t *bias;       /* 32 */
    const int32_t *multiplier; /* 36 */
    int8_t *y;                 /* 40 */
    int32_t stride;            /* 44: from one column's results to the next */
} qc_tile;

/* r1 r3 the columns, r5 the filters, r7 the end of the first column's sixteens, r11 what is left of k, r0 r2 r4 r6 sums of
 * the first column, r8 r10 r12 lr of the second. Rescaling, where the high word is enough: VMULH, VRSHL by the inverted
 * shift (right by shift + 1), VADD, VMAX, VMIN. */
__attribute__((noinline)) static void qc_run_tile(qc_tile *tile)
{
    register qc_tile *t __asm__("r0") = tile;
    __asm__ volatile("push {r0}\n\t"
                     "ldrd r4, r6, [r0, #24]\n\t"
                     "vdup.32 q6, r4\n\t"
                     "vdup.32 q7, r6\n\t"
                     "1:\n\t"
                     "ldrd r1, r11, [r0]\n\t"
                     "ldr r5, [r0, #8]\n\t"
                     "ldr r9, [r0, #32]\n\t"
                     "add r3, r1, r11\n\t"
                     "bic r7, r11, #15\n\t"
                     "add r7, r1, r7\n\t"
                     "ldm r9, {r0, r2, r4, r6}\n\t"
                     "mov r8, r0\n\t"
                     "mov r10, r2\n\t"
                     "mov r12, r4\n\t"
                     "mov lr, r6\n\t"
                     "cmp r1, r7\n\t"
                     "beq 6f\n\t"
                     "lsls r9, r11, #27\n\t" /* carry and sign tell sixteens mod 4 */
                     "bcs 8f\n\t"
                     "bmi 5f\n\t"
                     "2:\n\t" QC_STEP "3:\n\t" QC_STEP "4:\n\t" QC_STEP "5:\n\t" QC_STEP
                     "cmp r1, r7\n\t"
                     "bne 2b\n\t"
                     "6:\n\t"
                     "ands r11, r11, #15\n\t"
                     "beq 7f\n\t"
                     "vctp.8 r11\n\t"
                     "vpstt\n\t"
                     "vldrbt.u8 q0, [r1]\n\t"
                     "vldrbt.u8 q1, [r3]\n\t" QC_LAST("r0", "r8") QC_LAST("r2", "r10") QC_LAST("r4", "r12") QC_LAST("r6", "lr")
                     "7:\n\t"
                     "ldr r9, [sp]\n\t"
                     "vmov q0[2], q0[0], r0, r4\n\t"
                     "vmov q0[3], q0[1], r2, r6\n\t"
                     "vmov q1[2], q1[0], r8, r12\n\t"
                     "vmov q1[3], q1[1], r10, lr\n\t"
                     "ldrd r0, r1, [r9, #32]\n\t"
                     "ldrd r2, r3, [r9, #12]\n\t"
                     "ldrd r7, r8, [r9, #40]\n\t"
                     "ldr r4, [r9, #20]\n\t"
                     "vldrw.u32 q2, [r1], #16\n\t"
                     "vldrb.s32 q3, [r2], #4\n\t"
                     "add r0, r0, #16\n\t"
                     "add r6, r7, r8\n\t"
                     "vmulh.s32 q0, q0, q2\n\t"
                     "vmulh.s32 q1, q1, q2\n\t"
                     "vmvn q3, q3\n\t"
                     "vrshl.s32 q0, q0, q3\n\t"
                     "vrshl.s32 q1, q1, q3\n\t"
                     "vadd.i32 q0, q0, r3\n\t"
                     "vadd.i32 q1, q1, r3\n\t"
                     "vmax.s32 q0, q0, q6\n\t"
                     "vmax.s32 q1, q1, q6\n\t"
                     "vmin.s32 q0, q0, q7\n\t"
                     "vmin.s32 q1, q1, q7\n\t"
                     "vstrb.32 q0, [r7], #4\n\t"
                     "vstrb.32 q1, [r6]\n\t"
                     "strd r0, r1, [r9, #32]\n\t"
                     "strd r5, r2, [r9, #8]\n\t"
                     "str r7, [r9, #40]\n\t"
                     "mov r0, r9\n\t"
                     "subs r4, r4, #1\n\t"
                     "str r4, [r9, #20]\n\t"
                     "bne 1b\n\t"
                     "b 9f\n\t"
                     "8:\n\t"
                     "bmi 3b\n\t"
                     "b 4b\n\t"
                     "9:\n\t"
                     "add sp, sp, #4"
                     : "+r"(t)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2",
                       "q3", "q4", "q5", "q6", "q7", "cc", "memory");
}

/* One column, any rescaling and any number of channels. */
static void qc_one_column(const int8_t *x, int32_t k, const int8_t *w, const qc_rescale_params *rescale, int32_t first,
                          int32_t channels, int8_t *y)
{
    const int quick = qc_is_quick(rescale);
    for (int32_t c = 0; c < channels; c += 4) {
        const int32_t n = ((channels - c) < 4) ? (channels - c) : 4;
        int32_t sums[4];
        w = qc_sum_four(x, w, k, n, sums);
        if (quick && (n == 4)) {
            const int32_t at = first + c;
            const int32x4_t acc = vaddq_s32(vldrwq_s32(sums), vldrwq_s32(rescale->bias + at));
            const int32x4_t high = vmulhq_s32(acc, vldrwq_s32(rescale->multiplier + at));
            const int32x4_t v = vrshlq_s32(high, vmvnq_s32(vldrbq_s32(rescale->shift + at)));
            const int32x4_t code = vaddq_n_s32(v, rescale->zero_point);
            vstrbq_s32(y + c, vminq_s32(vmaxq_s32(code, vdupq_n_s32(rescale->qmin)), vdupq_n_s32(rescale->qmax)));
        } else {
            for (int32_t i = 0; i < n; i++) {
                y[c + i] = qc_finish(sums[i] + rescale->bias[first + c + i], rescale, first + c + i);
            }
        }
    }
}

void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    const int8_t *x = (const int8_t *)columns;
    const int8_t *w = (const int8_t *)weights;
    const int32_t fours = qc_is_quick(rescale) ? (channels / 4) : 0;
    const int32_t done = 4 * fours;
    int32_t i = 0;
    for (; (fours != 0) && ((i + 1) < count); i += 2) {
        qc_tile tile = {x, k, w, rescale->shift + first, rescale->zero_point, fours, rescale->qmin, rescale->qmax,
                        rescale->bias + first, rescale->multiplier + first, y, stride};
        qc_run_tile(&tile);
        for (int32_t j = 0; (j < 2) && (done < channels); j++) {
            qc_one_column(x + (j * k), k, w + (done * k), rescale, first + done, channels - done, y + (j * stride) + done);
        }
        x += 2 * k;
        y += 2 * stride;
    }
    for (; i < count; i++) {
        qc_one_column(x, k, w, rescale, first, channels, y);
        x += k;
        y += stride;
    }
}
#endif
