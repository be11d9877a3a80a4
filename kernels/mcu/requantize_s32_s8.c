/* Accumulators [rows, channels] to codes; x + bias fits int32. */
#include "qc_internal.h"

void qc_requantize_s32_s8(const int32_t *x, int8_t *y, int32_t rows, int32_t channels, const qc_rescale_params *p)
{
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t c = 0; c < channels; c++) {
            *y = qc_finish(*x + p->bias[c], p, c);
            x++;
            y++;
        }
    }
}
