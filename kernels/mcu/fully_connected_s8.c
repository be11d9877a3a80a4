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

void qc_fully_connected_s8(const int8_t *x, int8_t *y, const qc_fully_connected_s8_params *p, void *scratch)
{
    const int32_t block = qc_block(p);
    const int32_t bytes = qc_column_bytes(p->in_features);
    for (int32_t row = 0; row < p->rows; row += block) {
        const int32_t count = ((p->rows - row) < block) ? (p->rows - row) : block;
        for (int32_t i = 0; i < count; i++) {
            int32_t pitch;
            void *out = qc_column_at(scratch, i, count, bytes, &pitch);
            qc_expand_s8(x, p->in_features, out, pitch);
            x += p->in_features;
        }
#if defined(QC_INT4)
        if (p->weight_bits == 4) {
            qc_product_s4(scratch, count, p->in_features, p->weights, &p->rescale, 0, p->out_features, y,
                          p->out_features);
        } else
#endif
        {
            qc_product_s8(scratch, count, p->in_features, p->weights, &p->rescale, 0, p->out_features, y,
                          p->out_features);
        }
        y += count * p->out_features;
    }
}
