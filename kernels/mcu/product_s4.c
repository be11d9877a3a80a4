/* As product_s8.c, for packed int4 weights. */
#include "qc_internal.h"

#if defined(QC_PORTABLE) || defined(QC_MVE)
/* Code k of a row of nibbles. */
static inline int32_t qc_nibble(const uint8_t *row, int32_t k)
{
    const int32_t u = (row[k / 2] >> ((k % 2) * 4)) & 15;
    return (u ^ 8) - 8;
}

void qc_product_s4(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    const int32_t row = (k + 1) / 2;
    for (int32_t i = 0; i < count; i += 2) {
        const int32_t next = ((i + 1) < count) ? 1 : 0;
        const int8_t *x0 = (const int8_t *)columns + (i * k);
        const int8_t *x1 = x0 + (next * k);
        for (int32_t c = 0; c < channels; c++) {
            const uint8_t *w = (const uint8_t *)weights + (c * row);
            int32_t acc0 = rescale->bias[first + c];
            int32_t acc1 = acc0;
            for (int32_t j = 0; j < k; j++) {
                const int32_t code = qc_nibble(w, j);
                acc0 += code * x0[j];
                acc1 += code * x1[j];
            }
            y[(i * stride) + c] = qc_finish(acc0, rescale, first + c);
            y[((i + next) * stride) + c] = qc_finish(acc1, rescale, first + c);
        }
    }
}
#endif
