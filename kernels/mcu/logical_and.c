/* Both of two truth values; the second operand repeats after `period` elements. */
#include "qc_internal.h"

void qc_logical_and(const uint8_t *a, const uint8_t *b, uint8_t *y, int32_t count, int32_t period)
{
    int32_t j = 0;
    for (int32_t i = 0; i < count; i++) {
        y[i] = ((a[i] != 0u) && (b[j] != 0u)) ? 1u : 0u;
        j++;
        if (j == period) {
            j = 0;
        }
    }
}
