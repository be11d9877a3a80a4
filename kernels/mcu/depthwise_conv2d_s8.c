/* Depthwise convolution of int8 codes: one filter per channel.
 *
 *   acc[c] = bias[c] + sum_{i, j} x[i, j, c] w[i, j, c];  y[c] = clip(rescale(acc[c]) + zero_point, qmin, qmax)
 *
 * A block of channels at a time, strips of rows are gathered, padded, into scratch; each row of the image is read once
 * and before the output rows that may overwrite it, so y may be x. */
#include "qc_internal.h"

static int32_t qc_span(const qc_window_params *v)
{
    return ((v->kernel_height - 1) * v->dilation_height) + 1;
}

static int32_t qc_block_rows(const qc_depthwise_conv2d_s8_params *p)
{
    return ((p->row_block > 0) && (p->row_block < p->window.out_height)) ? p->row_block : p->window.out_height;
}

static qc_strip qc_strip_of(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_window_params *v = &p->window;
    qc_strip strip;
    strip.rows = ((qc_block_rows(p) - 1) * v->stride_height) + qc_span(v);
    strip.channels = (p->channel_block < v->in_channels) ? p->channel_block : v->in_channels;
#if defined(QC_DSP) /* two outputs at a time, two columns per word */
    const int32_t last = ((v->out_width + 1) & ~1) - 1;
    strip.width = ((last * v->stride_width) + ((v->kernel_width - 1) * v->dilation_width) + 2) & ~1;
#else
    strip.width = ((v->out_width - 1) * v->stride_width) + ((v->kernel_width - 1) * v->dilation_width) + 1;
#endif
    return strip;
}

int32_t qc_depthwise_conv2d_s8_scratch_bytes(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_strip strip = qc_strip_of(p);
#if defined(QC_DSP)
    return (strip.channels * strip.rows * strip.width * 2) + QC_PREPARED_BYTES;
#else
    const int32_t bytes = strip.rows * strip.width * strip.channels;
    return (QC_PREPARED_BYTES == 0) ? bytes : (((bytes + 3) & ~3) + QC_PREPARED_BYTES);
#endif
}

void qc_depthwise_conv2d_s8(const int8_t *x, int8_t *y, const qc_depthwise_conv2d_s8_params *p, void *scratch)
{
    const qc_window_params *v = &p->window;
    const qc_strip strip = qc_strip_of(p);
    const int32_t block = qc_block_rows(p);
    const int32_t row_bytes = v->out_width * v->in_channels;
    for (int32_t first = 0; first < v->in_channels; first += strip.channels) {
        const int32_t n = ((v->in_channels - first) < strip.channels) ? (v->in_channels - first) : strip.channels;
        int32_t filled = 0; /* rows in the strip */
        int32_t end = 0;    /* the row of the image behind them */
        for (int32_t row = 0; row < v->out_height; row += block) {
            const int32_t rows = ((v->out_height - row) < block) ? (v->out_height - row) : block;
            const int32_t top = (row * v->stride_height) - v->pad_top;
            const int32_t need = ((rows - 1) * v->stride_height) + qc_span(v);
            const int32_t kept = ((filled > 0) && (end > top)) ? (end - top) : 0;
            qc_depthwise_keep_s8(&strip, scratch, filled, kept, n);
            for (int32_t i = kept; i < need; i++) {
                qc_depthwise_load_s8(x, p, &strip, scratch, i, top + i, first, n);
            }
            filled = need;
            end = top + need;
            qc_depthwise_rows_s8(p, &strip, scratch, first, n, rows, y + (row * row_bytes) + first);
        }
    }
}
