/* Any function of one code with 16-bit results: y = table[x + 128]. */
#include "qc_internal.h"

void qc_lookup_s8_s16(const int8_t *x, int16_t *y, int32_t count, const int16_t *table)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = table[x[i] + 128];
    }
}
