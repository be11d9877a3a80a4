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
/* Sums of one column and four filters: 16 codes at a time, the last ones predicated. */
static inline void qc_sum_four(const int8_t *x, const int8_t *const w[4], int32_t k, int32_t sums[4])
{
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    const int8_t *w0 = w[0];
    const int8_t *w1 = w[1];
    const int8_t *w2 = w[2];
    const int8_t *w3 = w[3];
    __asm__ volatile("wlstp.8 lr, %[k], 2f\n\t"
                     "1:\n\t"
                     "vldrb.8 q0, [%[x]], #16\n\t"
                     "vldrb.8 q1, [%[w0]], #16\n\t"
                     "vmladava.s8 %[s0], q0, q1\n\t"
                     "vldrb.8 q2, [%[w1]], #16\n\t"
                     "vmladava.s8 %[s1], q0, q2\n\t"
                     "vldrb.8 q1, [%[w2]], #16\n\t"
                     "vmladava.s8 %[s2], q0, q1\n\t"
                     "vldrb.8 q2, [%[w3]], #16\n\t"
                     "vmladava.s8 %[s3], q0, q2\n\t"
                     "letp lr, 1b\n\t"
                     "2:"
                     : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [x] "+r"(x), [w0] "+r"(w0),
                       [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3)
                     : [k] "r"(k)
                     : "q0", "q1", "q2", "lr", "memory");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#endif
