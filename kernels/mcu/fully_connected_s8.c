/* Fully connected layer on int8 codes: y[r, c] = rescale(bias[c] + sum_k x[r, k] w[c, k]).
 *
 * Rows are written in order; a block of rows is written after it was read, as in conv2d_s8.c. */
#include "qc_internal.h"

static int32_t qc_block(const qc_fully_connected_s8_params *p)
{
    return (p->columns < p->rows) ? p->columns : p->rows;
}

int32_t qc_fully_connected_s8_scratch_bytes(const qc_fully_connected_s8_params *p)
{
    return qc_block(p) * qc_column_bytes(p->in_features);
}

static void qc_wide_rows(const int8_t *x, int16_t *y, const qc_fully_connected_s8_params *p, void *scratch)
{
    for (int32_t row = 0; row < p->rows; row++) {
        qc_expand_s8(x, p->in_features, scratch, 1);
        qc_product_s8_s16(scratch, p->in_features, p->weights, &p->rescale, p->out_features, y);
        x += p->in_features;
        y += p->out_features;
    }
}

static void qc_rows(const int8_t *x, int8_t *y, const qc_fully_connected_s8_params *p, void *scratch)
{
    const int32_t block = qc_block(p);
    const int32_t k = p->in_features;
    const int32_t bytes = qc_column_bytes(k);
    for (int32_t row = 0; row < p->rows; row += block) {
        const int32_t count = ((p->rows - row) < block) ? (p->rows - row) : block;
        for (int32_t i = 0; i < count; i++) {
            int32_t pitch;
            void *out = qc_column_at(scratch, i, count, bytes, &pitch);
            qc_expand_s8(x, k, out, pitch);
            x += k;
        }
#if defined(QC_INT4)
        if (p->weight_bits == 4) {
            qc_product_s4(scratch, count, k, p->weights, &p->rescale, 0, p->out_features, y, p->out_features);
        } else
#endif
        {
            qc_product_s8(scratch, count, k, p->weights, &p->rescale, 0, p->out_features, y, p->out_features);
        }
        y += count * p->out_features;
    }
}

void qc_fully_connected_s8(const int8_t *x, void *y, const qc_fully_connected_s8_params *p, void *scratch)
{
    if (p->y_bits == 16) {
        qc_wide_rows(x, (int16_t *)y, p, scratch);
    } else {
        qc_rows(x, (int8_t *)y, p, scratch);
    }
}
