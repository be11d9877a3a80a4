/* Product of two operands: y = clip(rescale((a - za) (b - zb)) + zero_point, qmin, qmax). The product is below 2^17. */
#include "qc_internal.h"

void qc_mul_s8(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, int32_t period, const qc_mul_params *p)
{
    int32_t j = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t product = (a[i] - p->a_zero_point) * (b[j] - p->b_zero_point);
        y[i] = (int8_t)qc_requantize_any(product, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
        j++;
        if (j == period) {
            j = 0;
        }
    }
}
