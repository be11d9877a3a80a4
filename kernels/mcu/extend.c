/* Codes as pairs of 16 bits in SXTB16's order: the copy behind every column on a core with the DSP extension. */
#include "qc_internal.h"

#if defined(QC_DSP)
#define QC_FOUR(codes, first, second)        \
    "sxtb16 %[even], " codes "\n\t"          \
    "sxtb16 " codes ", " codes ", ror #8\n\t" \
    "str %[even], [%[out], #" first "]\n\t"  \
    "str " codes ", [%[out], #" second "]\n\t"

qc_word *qc_extend(const int8_t *x, int32_t n, qc_word *out, int32_t pitch)
{
    uint32_t a, b, even;
    if (pitch == 3) {
        for (; n >= 16; n -= 16) {
            __asm__ volatile("ldr %[a], [%[x]], #4\n\t"
                             "ldr %[b], [%[x]], #4\n\t" QC_FOUR("%[a]", "0", "12") QC_FOUR("%[b]", "24", "36")
                             "ldr %[a], [%[x]], #4\n\t"
                             "ldr %[b], [%[x]], #4\n\t" QC_FOUR("%[a]", "48", "60") QC_FOUR("%[b]", "72", "84")
                             "add %[out], %[out], #96"
                             : [x] "+r"(x), [out] "+r"(out), [a] "=&r"(a), [b] "=&r"(b), [even] "=&r"(even)
                             :
                             : "memory");
        }
    }
    const int32_t step = 4 * pitch;
    for (; n > 0; n -= 4) {
        __asm__ volatile("ldr %[a], [%[x]], #4\n\t"
                         "sxtb16 %[even], %[a]\n\t"
                         "sxtb16 %[a], %[a], ror #8\n\t"
                         "str %[a], [%[out], %[step]]\n\t"
                         "str %[even], [%[out]]\n\t"
                         "add %[out], %[out], %[step], lsl #1"
                         : [x] "+r"(x), [out] "+r"(out), [a] "=&r"(a), [even] "=&r"(even)
                         : [step] "r"(step)
                         : "memory");
    }
    return out;
}
#else
typedef int qc_unused; /* C has no empty translation unit */
#endif
