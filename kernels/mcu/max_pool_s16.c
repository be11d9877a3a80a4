/* Largest 16-bit code of each window; padding never wins. A window without any code of the image gives -32768. */
#include "qc_internal.h"

static int16_t qc_largest(const int16_t *x, const qc_window_params *v, int32_t top, int32_t left)
{
    int16_t best = INT16_MIN;
    for (int32_t i = 0; i < v->kernel_height; i++) {
        const int32_t r = top + (i * v->dilation_height);
        for (int32_t j = 0; j < v->kernel_width; j++) {
            const int32_t q = left + (j * v->dilation_width);
            if ((r >= 0) && (r < v->in_height) && (q >= 0) && (q < v->in_width)) {
                const int16_t code = x[((r * v->in_width) + q) * v->in_channels];
                best = (code > best) ? code : best;
            }
        }
    }
    return best;
}

void qc_max_pool_s16(const int16_t *x, int16_t *y, const qc_max_pool_params *p)
{
    const qc_window_params *v = &p->window;
    for (int32_t row = 0; row < v->out_height; row++) {
        const int32_t top = (row * v->stride_height) - v->pad_top;
        for (int32_t col = 0; col < v->out_width; col++) {
            const int32_t left = (col * v->stride_width) - v->pad_left;
            for (int32_t channel = 0; channel < v->in_channels; channel++) {
                *y++ = qc_largest(x + channel, v, top, left);
            }
        }
    }
}
