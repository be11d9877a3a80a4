/* One column from consecutive codes: a copy in plain layout, sign extension to 16 bits in pairs layout. */
#include <string.h>

#include "qc_internal.h"

#if defined(QC_DSP)
void qc_expand_s8(const int8_t *x, int32_t k, void *columns, int32_t index, int32_t count)
{
    const int32_t tiled = count - (count % 3);
    const int32_t words = ((k + 3) / 4) * 2; /* of one column */
    qc_word *out = (qc_word *)columns;
    int32_t left = k / 4;
    if (index < tiled) {
        out += ((index / 3) * 3 * words) + (index % 3);
        for (; left >= 2; left -= 2) {
            const uint32_t a = ((const qc_unaligned_word *)(const void *)x)[0];
            const uint32_t b = ((const qc_unaligned_word *)(const void *)x)[1];
            out[0] = qc_sxtb16(a);
            out[3] = qc_sxtb16_ror8(a);
            out[6] = qc_sxtb16(b);
            out[9] = qc_sxtb16_ror8(b);
            x += 8;
            out += 12;
        }
        if (left != 0) {
            const uint32_t a = ((const qc_unaligned_word *)(const void *)x)[0];
            out[0] = qc_sxtb16(a);
            out[3] = qc_sxtb16_ror8(a);
            x += 4;
            out += 6;
        }
    } else {
        out += index * words;
        for (; left != 0; left--) {
            const uint32_t a = ((const qc_unaligned_word *)(const void *)x)[0];
            out[0] = qc_sxtb16(a);
            out[1] = qc_sxtb16_ror8(a);
            x += 4;
            out += 2;
        }
    }
    if ((k % 4) != 0) {
        uint32_t a = 0;
        (void)memcpy(&a, x, (size_t)(k % 4));
        out[0] = qc_sxtb16(a);
        out[(index < tiled) ? 3 : 1] = qc_sxtb16_ror8(a);
    }
}
#else
void qc_expand_s8(const int8_t *x, int32_t k, void *columns, int32_t index, int32_t count)
{
    (void)count;
    (void)memcpy((int8_t *)columns + ((size_t)index * (size_t)k), x, (size_t)k);
}
#endif
