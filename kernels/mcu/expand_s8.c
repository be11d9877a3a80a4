/* One column from consecutive codes: a copy in plain layout, sign extension to 16 bits in pairs layout. */
#include "qc_internal.h"

#if defined(QC_DSP)
void qc_expand_s8(const int8_t *x, int32_t k, void *out, int32_t pitch)
{
    const int32_t rest = k & 3;
    qc_word *end = qc_extend(x, k - rest, (qc_word *)out, pitch);
    if (rest != 0) { /* bytes of their own: nothing after x is read */
        uint32_t last = 0;
        for (int32_t i = 0; i < rest; i++) {
            last |= (uint32_t)(uint8_t)x[k - rest + i] << (8 * i);
        }
        end[0] = qc_sxtb16(last);
        end[pitch] = qc_sxtb16_ror8(last);
    }
}
#else
void qc_expand_s8(const int8_t *x, int32_t k, void *out, int32_t pitch)
{
    (void)pitch;
    qc_copy_bytes((int8_t *)out, x, k);
}
#endif
