/* Largest code of each window; padding never wins. A window without any code of the image gives -128. */
#include "qc_internal.h"

void qc_max_pool_s8(const int8_t *x, int8_t *y, const qc_max_pool_s8_params *p)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    for (int32_t row = 0; row < v->out_height; row++) {
        const int32_t top = (row * v->stride_height) - v->pad_top;
        for (int32_t col = 0; col < v->out_width; col++) {
            const int32_t left = (col * v->stride_width) - v->pad_left;
            for (int32_t c = 0; c < channels; c++) {
                int32_t best = INT8_MIN;
                for (int32_t i = 0; i < v->kernel_height; i++) {
                    const int32_t r = top + (i * v->dilation_height);
                    for (int32_t j = 0; j < v->kernel_width; j++) {
                        const int32_t q = left + (j * v->dilation_width);
                        if ((r >= 0) && (r < v->in_height) && (q >= 0) && (q < v->in_width)) {
                            const int32_t code = x[(((r * v->in_width) + q) * channels) + c];
                            best = (code > best) ? code : best;
                        }
                    }
                }
                *y = (int8_t)best;
                y++;
            }
        }
    }
}
