/* Sum of each window's (x - input_zero_point), rescaled; padding counts as 0. The count of the window is in the
 * multiplier. Sums stay below 2^31 for windows of up to 2^23 pixels. */
#include "qc_internal.h"

void qc_avg_pool_s8(const int8_t *x, int8_t *y, const qc_avg_pool_s8_params *p)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    for (int32_t row = 0; row < v->out_height; row++) {
        const int32_t top = (row * v->stride_height) - v->pad_top;
        const int32_t r0 = (top < 0) ? 0 : top;
        const int32_t r1 = ((top + v->kernel_height) < v->in_height) ? (top + v->kernel_height) : v->in_height;
        for (int32_t col = 0; col < v->out_width; col++) {
            const int32_t left = (col * v->stride_width) - v->pad_left;
            const int32_t q0 = (left < 0) ? 0 : left;
            const int32_t q1 = ((left + v->kernel_width) < v->in_width) ? (left + v->kernel_width) : v->in_width;
            const int32_t inside = ((r1 > r0) && (q1 > q0)) ? ((r1 - r0) * (q1 - q0)) : 0;
            for (int32_t c = 0; c < channels; c++) {
                int32_t sum = -inside * p->input_zero_point;
                for (int32_t r = r0; r < r1; r++) {
                    const int8_t *from = x + (((r * v->in_width) + q0) * channels) + c;
                    for (int32_t q = q0; q < q1; q++) {
                        sum += *from;
                        from += channels;
                    }
                }
                *y = (int8_t)qc_requantize_any(sum, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
                y++;
            }
        }
    }
}
