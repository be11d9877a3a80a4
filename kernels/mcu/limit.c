/* Codes limited to [qmin, qmax], where those are not the ends of int8. */
#include "qc_internal.h"

void qc_limit(int8_t *y, int32_t rows, int32_t n, int32_t stride, const qc_rescale_params *p)
{
    if ((p->flags & QC_FULL_RANGE) != 0) {
        return;
    }
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t c = 0; c < n; c++) {
            y[c] = (int8_t)qc_clip(y[c], p->qmin, p->qmax);
        }
        y += stride;
    }
}
