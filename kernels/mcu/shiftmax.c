/* I-ViT's Shiftmax: softmax with exponentials by shifts (Li and Gu, arXiv:2207.01405, section 3.2).
 *
 *   t = x - max over the elements the mask keeps; t += (t >> 1) - (t >> 4); t = max(t, -bits unit)
 *   q = -t div unit; r = -t - q unit; e = ((2 unit - r) << (bits - q)) >> 1
 *   round:      p = (512 e + sum e) div (2 sum e), in steps of 1/256
 *   reciprocal: p = (e ((2^31 - 1) div min(sum e, 2^31 - 1))) >> 24, in steps of 1/128
 *
 * e is at most unit 2^bits; sums and products are held in 64 bits. */
#include "qc_internal.h"

#define QC_TOP 0x7FFFFFFF

static int64_t qc_masked_exp(const void *x, int32_t i, const uint8_t *mask, int32_t top, const qc_shiftmax_params *p)
{
    if ((mask != 0) && (mask[i] == 0u)) {
        return 0;
    }
    return qc_shift_exp(qc_load_code(x, i, p->x_bits) - top, p->unit, p->bits);
}

static void qc_row(const void *x, int8_t *y, const uint8_t *mask, const qc_shiftmax_params *p)
{
    int32_t top = INT32_MIN;
    int64_t sum = 0;
    for (int32_t i = 0; i < p->length; i++) {
        const int32_t code = qc_load_code(x, i, p->x_bits);
        top = (((mask == 0) || (mask[i] != 0u)) && (code > top)) ? code : top;
    }
    for (int32_t i = 0; i < p->length; i++) {
        sum += qc_masked_exp(x, i, mask, top, p);
    }
    const int64_t limited = (sum < 1) ? 1 : ((sum > QC_TOP) ? QC_TOP : sum);
    for (int32_t i = 0; i < p->length; i++) {
        const int64_t e = qc_masked_exp(x, i, mask, top, p);
        int64_t v = 0;
        if (p->reciprocal != 0) {
            v = (e * (QC_TOP / limited)) >> 24;
        } else if (sum > 0) {
            v = ((512 * e) + sum) / (2 * sum);
        } else {
            v = 0;
        }
        y[i] = (int8_t)qc_clip(qc_limit_int32(v) + p->zero_point, p->qmin, p->qmax);
    }
}

void qc_shiftmax(const void *x, int8_t *y, const uint8_t *mask, const qc_shiftmax_params *p)
{
    const int32_t bytes = p->length * (p->x_bits / 8);
    const int8_t *from = (const int8_t *)x;
    for (int32_t row = 0; row < p->rows; row++) {
        qc_row(from, y, (mask == 0) ? 0 : (mask + ((row % p->mask_rows) * p->length)), p);
        from += bytes;
        y += p->length;
    }
}
