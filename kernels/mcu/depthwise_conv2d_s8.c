/* Depthwise convolution of int8 codes: one filter per channel.
 *
 *   acc[c] = bias[c] + sum_{i, j} x[i, j, c] w[i, j, c];  y[c] = clip(rescale(acc[c]) + zero_point, qmin, qmax)
 *
 * A block of channels at a time, the rows that a window needs are gathered, padded, into a ring in scratch; each row of the
 * image is read once and before the output row that may overwrite it, so y may be x. */
#include "qc_internal.h"

static qc_ring qc_ring_of(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_window_params *v = &p->window;
    qc_ring ring;
    ring.rows = ((v->kernel_height - 1) * v->dilation_height) + 1;
    ring.channels = (p->channel_block < v->in_channels) ? p->channel_block : v->in_channels;
#if defined(QC_DSP) /* two outputs at a time, two columns per word */
    const int32_t last = ((v->out_width + 1) & ~1) - 1;
    ring.width = ((last * v->stride_width) + ((v->kernel_width - 1) * v->dilation_width) + 2) & ~1;
#else
    ring.width = ((v->out_width - 1) * v->stride_width) + ((v->kernel_width - 1) * v->dilation_width) + 1;
#endif
    return ring;
}

int32_t qc_depthwise_conv2d_s8_scratch_bytes(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_ring ring = qc_ring_of(p);
#if defined(QC_DSP)
    return ring.channels * ((ring.rows * ring.width * 2) + 24);
#else
    return ring.rows * ring.width * ring.channels;
#endif
}

void qc_depthwise_conv2d_s8(const int8_t *x, int8_t *y, const qc_depthwise_conv2d_s8_params *p, void *scratch)
{
    const qc_window_params *v = &p->window;
    const qc_ring ring = qc_ring_of(p);
    for (int32_t first = 0; first < v->in_channels; first += ring.channels) {
        const int32_t n = ((v->in_channels - first) < ring.channels) ? (v->in_channels - first) : ring.channels;
        qc_depthwise_weights_s8(p, &ring, scratch, first, n);
        int32_t loaded = -v->pad_top; /* the next row of the image to gather */
        for (int32_t row = 0; row < v->out_height; row++) {
            const int32_t top = (row * v->stride_height) - v->pad_top;
            loaded = (loaded < top) ? top : loaded;
            for (; loaded < (top + ring.rows); loaded++) {
                qc_depthwise_load_s8(x, p, &ring, scratch, (loaded + v->pad_top) % ring.rows, loaded, first, n);
            }
            qc_depthwise_row_s8(p, &ring, scratch, (top + v->pad_top) % ring.rows, first, n,
                                y + (row * v->out_width * v->in_channels) + first);
        }
    }
}
