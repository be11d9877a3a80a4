/* Sums of one gathered column with a few filters. Not for callers. */
#ifndef QC_SUMS_H
#define QC_SUMS_H

#include "qc_internal.h"

#if defined(QC_DSP)
/* One column: 10 instructions for 8 products. */
static inline void qc_sum_one(const qc_word *x, const qc_word *w, int32_t quads, int32_t sums[2])
{
    int32_t a = sums[0];
    int32_t b = sums[1];
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
    sums[0] = a;
    sums[1] = b;
}
#endif

#if defined(QC_MVE)
/* Sums of one column and n <= 4 filters; returns where the next filters are. Sixteen k at a time, the last ones
 * predicated. */
static inline const int8_t *qc_sum_four(const int8_t *x, const int8_t *w, int32_t k, int32_t n, int32_t sums[4])
{
    const int32_t rest = k & 15;
    const mve_pred16_t last = vctp8q((uint32_t)rest);
    int32_t sixteens = k >> 4;
    sums[0] = 0;
    sums[1] = 0;
    sums[2] = 0;
    sums[3] = 0;
    if (n == 4) {
        int32_t s0 = 0;
        int32_t s1 = 0;
        int32_t s2 = 0;
        int32_t s3 = 0;
        __asm__ volatile("wls lr, %[n], 2f\n\t"
                         "1:\n\t"
                         "vldrb.8 q0, [%[x]], #16\n\t"
                         "vldrb.8 q1, [%[w]], #16\n\t"
                         "vmladava.s8 %[s0], q0, q1\n\t"
                         "vldrb.8 q2, [%[w]], #16\n\t"
                         "vmladava.s8 %[s1], q0, q2\n\t"
                         "vldrb.8 q1, [%[w]], #16\n\t"
                         "vmladava.s8 %[s2], q0, q1\n\t"
                         "vldrb.8 q2, [%[w]], #16\n\t"
                         "vmladava.s8 %[s3], q0, q2\n\t"
                         "le lr, 1b\n\t"
                         "2:"
                         : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [x] "+r"(x), [w] "+r"(w)
                         : [n] "r"(sixteens)
                         : "q0", "q1", "q2", "lr", "memory");
        sums[0] = s0;
        sums[1] = s1;
        sums[2] = s2;
        sums[3] = s3;
    } else {
        for (; sixteens != 0; sixteens--) {
            const int8x16_t v = vldrbq_s8(x);
            for (int32_t i = 0; i < n; i++) {
                sums[i] = vmladavaq_s8(sums[i], v, vldrbq_s8(w));
                w += 16;
            }
            x += 16;
        }
    }
    if (rest != 0) {
        const int8x16_t v = vldrbq_z_s8(x, last);
        for (int32_t i = 0; i < n; i++) {
            sums[i] = vmladavaq_s8(sums[i], v, vldrbq_z_s8(w, last));
            w += rest;
        }
    }
    return w;
}
#endif

#endif
