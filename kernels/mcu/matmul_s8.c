/* Product of two activations: y[m, n] = rescale(sum_k (a[m, k] - za) (b[k, n] - zb)).
 *
 * Differences of codes fit 9 bits, so sums fit int32 for k < 2^15. */
#include "qc_internal.h"

int32_t qc_matmul_s8_scratch_bytes(const qc_matmul_s8_params *p)
{
    (void)p;
    return 0;
}

void qc_matmul_s8(const int8_t *a, const int8_t *b, int8_t *y, const qc_matmul_s8_params *p, void *scratch)
{
    const int32_t step = (p->b_transposed != 0) ? 1 : p->columns;       /* from one k to the next */
    const int32_t apart = (p->b_transposed != 0) ? p->inner : 1; /* from one column to the next */
    (void)scratch;
    for (int32_t m = 0; m < p->rows; m++) {
        for (int32_t n = 0; n < p->columns; n++) {
            const int8_t *column = b + (n * apart);
            int32_t acc = 0;
            for (int32_t k = 0; k < p->inner; k++) {
                acc += (a[k] - p->a_zero_point) * (*column - p->b_zero_point);
                column += step;
            }
            *y = (int8_t)qc_requantize(acc, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
            y++;
        }
        a += p->inner;
    }
}
