/* A scale and a shift per channel, a depthwise convolution whose window is one pixel:
 *
 *   y[i, c] = clip(rescale(bias[c] + x[i, c] w[c]) + zero_point, qmin, qmax) */
#include "qc_internal.h"

void qc_scale_channels_s8(const int8_t *x, int8_t *y, int32_t rows, int32_t channels, const int8_t *weights,
                          const qc_rescale_params *p)
{
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t c = 0; c < channels; c++) {
            y[c] = qc_finish(p->bias[c] + (x[c] * weights[c]), p, c);
        }
        x += channels;
        y += channels;
    }
}
