/* As product_s8.c for one column and 16-bit results. */
#include "qc_sums.h"

static int16_t qc_finish_wide(int32_t acc, const qc_rescale_params *p, int32_t c)
{
    return (int16_t)qc_requantize(acc + p->bias[c], qc_multiplier_of(p, c), p->shift[c], p->zero_point, p->qmin, p->qmax);
}

void qc_product_s8_s16(const void *column, int32_t k, const void *weights, const qc_rescale_params *rescale,
                       int32_t channels, int16_t *y)
{
#if defined(QC_DSP)
    const int32_t quads = (k + 3) / 4;
    const qc_word *w = (const qc_word *)weights;
    for (int32_t c = 0; c < channels; c += 2) {
        int32_t sums[2] = {0, 0};
        qc_sum_one((const qc_word *)column, w, quads, sums);
        y[c] = qc_finish_wide(sums[0], rescale, c);
        if ((c + 1) < channels) {
            y[c + 1] = qc_finish_wide(sums[1], rescale, c + 1);
        }
        w += 2 * quads;
    }
#elif defined(QC_MVE)
    const int8_t *w = (const int8_t *)weights;
    for (int32_t c = 0; c < channels; c += 4) {
        const int32_t n = ((channels - c) < 4) ? (channels - c) : 4;
        int32_t sums[4];
        w = qc_sum_four((const int8_t *)column, w, k, n, sums);
        for (int32_t i = 0; i < n; i++) {
            y[c + i] = qc_finish_wide(sums[i], rescale, c + i);
        }
    }
#else
    const int8_t *x = (const int8_t *)column;
    const int8_t *w = (const int8_t *)weights;
    for (int32_t c = 0; c < channels; c++) {
        int32_t acc = 0;
        for (int32_t j = 0; j < k; j++) {
            acc += x[j] * w[j];
        }
        y[c] = qc_finish_wide(acc, rescale, c);
        w += k;
    }
#endif
}
