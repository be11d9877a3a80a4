/* Softmax of 16-bit codes with exponentials from a table.
 *
 *   d = max - x over the elements the mask keeps; e = table[d], 0 beyond the table and where masked
 *   y = min((512 e + sum e) div (2 sum e), 255) + zero_point; a row without any kept element gives probability 0
 *
 * Table entries are below 2^15 and rows at most 2^15 long, so everything fits 32 bits. */
#include "qc_internal.h"

static void qc_masked_row(const int16_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p)
{
    int32_t top = INT32_MIN;
    uint32_t sum = 0;
    for (int32_t i = 0; i < p->length; i++) {
        top = ((mask[i] != 0u) && (x[i] > top)) ? x[i] : top;
    }
    for (int32_t i = 0; i < p->length; i++) {
        sum += (mask[i] != 0u) ? qc_exponential(top - x[i], p) : 0u;
    }
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = (mask[i] != 0u) ? qc_probability(qc_exponential(top - x[i], p), sum, p->zero_point)
                               : (int8_t)p->zero_point;
    }
}

static void qc_row(const int16_t *x, int8_t *y, const qc_softmax_lookup_params *p)
{
    const int32_t n = p->length;
    int32_t top = x[0];
    uint32_t sum = 0;
    for (int32_t i = 1; i < n; i++) {
        top = (x[i] > top) ? x[i] : top;
    }
    for (int32_t i = 0; i < n; i++) {
        sum += qc_exponential(top - x[i], p);
    }
    const uint32_t twice = 2u * sum;
    for (int32_t i = 0; i < n; i++) {
        const uint32_t v = ((512u * qc_exponential(top - x[i], p)) + sum) / twice;
        y[i] = (int8_t)((int32_t)((v > 255u) ? 255u : v) + p->zero_point);
    }
}

void qc_softmax_lookup_s16(const int16_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p)
{
    for (int32_t row = 0; row < p->rows; row++) {
        if (mask == 0) {
            qc_row(x, y, p);
        } else {
            qc_masked_row(x, y, mask + ((row % p->mask_rows) * p->length), p);
        }
        x += p->length;
        y += p->length;
    }
}
