/* Any function of one code, from a table of 256: y = table[x + 128]. */
#include "qc_internal.h"

void qc_lookup_s8(const int8_t *x, int8_t *y, int32_t count, const int8_t *table)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = table[x[i] + 128];
    }
}
