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

#if defined(QC_DSP)
#define QC_HALF_BYTES 0x000F000Fu

/* Codes are stored plus 8: sum x w = sum x (w + 8) - 8 sum x. */
static inline int32_t qc_column_sum(const qc_word *x, int32_t pitch, int32_t quads)
{
    int32_t sum = 0;
    for (int32_t j = 0; j < (2 * quads); j++) {
        sum = qc_smlad(*x, 0x00010001u, sum);
        x += pitch;
    }
    return sum;
}

/* One column of `pitch` words between pairs of k, two channels. */
static inline void qc_sum_pair(const qc_word *x, int32_t pitch, const qc_word *w, int32_t quads, int32_t acc[2])
{
    int32_t a = acc[0];
    int32_t b = acc[1];
    for (; quads != 0; quads--) {
        const uint32_t codes = *w;
        a = qc_smlad(x[0], codes & QC_HALF_BYTES, a);
        b = qc_smlad(x[0], (codes >> 4) & QC_HALF_BYTES, b);
        a = qc_smlad(x[pitch], (codes >> 8) & QC_HALF_BYTES, a);
        b = qc_smlad(x[pitch], (codes >> 12) & QC_HALF_BYTES, b);
        x += 2 * pitch;
        w++;
    }
    acc[0] = a;
    acc[1] = b;
}

void qc_product_s4(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    const int32_t quads = (k + 3) / 4;
    const qc_word *x = (const qc_word *)columns;
    while (count != 0) {
        const int32_t n = (count >= 3) ? 3 : 1;
        for (int32_t i = 0; i < n; i++) {
            const qc_word *w = (const qc_word *)weights;
            const int32_t offset = 8 * qc_column_sum(x + i, n, quads);
            for (int32_t c = 0; c < channels; c += 2) {
                const int32_t other = ((c + 1) < channels) ? 1 : 0;
                int32_t acc[2] = {rescale->bias[first + c] - offset, rescale->bias[first + c + other] - offset};
                qc_sum_pair(x + i, n, w, quads, acc);
                y[c] = qc_finish(acc[0], rescale, first + c);
                if (other != 0) {
                    y[c + 1] = qc_finish(acc[1], rescale, first + c + 1);
                }
                w += quads;
            }
            y += stride;
        }
        x += 2 * quads * n;
        count -= n;
    }
}
#endif
