/* Runs of bytes from strided to strided places: concat, split and slice are calls of it. */
#include <string.h>

#include "qc_internal.h"

void qc_copy(const void *x, void *y, int32_t rows, int32_t bytes, int32_t x_stride, int32_t y_stride)
{
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < rows; i++) {
        (void)memcpy(to, from, (size_t)bytes);
        from += x_stride;
        to += y_stride;
    }
}
