/* Truth values of integers: y = (x != 0). */
#include "qc_internal.h"

void qc_not_zero(const int32_t *x, uint8_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = (x[i] != 0) ? 1u : 0u;
    }
}
