/* Depthwise convolution of int8 codes: one filter per channel.
 *
 *   acc[c] = bias[c] + sum_{i, j} x[i, j, c] w[i, j, c];  y[c] = clip(rescale(acc[c]) + zero_point, qmin, qmax)
 *
 * A block of channels at a time, the rows that a window needs are gathered, padded, into a ring in scratch; each row of the
 * image is read once and before the output row that may overwrite it, so y may be x. */
#include <string.h>

#include "qc_internal.h"

/* Sizes of the ring. */
typedef struct {
    int32_t rows;
    int32_t width;    /* codes of one row of one channel */
    int32_t channels; /* of a block */
} qc_ring;

static qc_ring qc_ring_of(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_window_params *v = &p->window;
    qc_ring ring;
    ring.rows = ((v->kernel_height - 1) * v->dilation_height) + 1;
    ring.width = ((v->out_width - 1) * v->stride_width) + ((v->kernel_width - 1) * v->dilation_width) + 1;
    ring.channels = (p->channel_block < v->in_channels) ? p->channel_block : v->in_channels;
    return ring;
}

int32_t qc_depthwise_conv2d_s8_scratch_bytes(const qc_depthwise_conv2d_s8_params *p)
{
    const qc_ring ring = qc_ring_of(p);
    return ring.rows * ring.width * ring.channels;
}

/* Row `row` of the image (outside it: padding), `n` channels from `first`. */
static void qc_load_row(const int8_t *x, const qc_depthwise_conv2d_s8_params *p, int8_t *out, int32_t width, int32_t row,
                        int32_t first, int32_t n)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    if ((row < 0) || (row >= v->in_height)) {
        (void)memset(out, p->input_zero_point, (size_t)(width * n));
        return;
    }
    const int32_t lead = (v->pad_left < width) ? v->pad_left : width;
    const int32_t end = ((v->in_width + v->pad_left) < width) ? (v->in_width + v->pad_left) : width;
    const int8_t *from = x + (row * v->in_width * channels) + first;
    (void)memset(out, p->input_zero_point, (size_t)(lead * n));
    out += lead * n;
    if (n == channels) {
        (void)memcpy(out, from, (size_t)((end - lead) * n));
        out += (end - lead) * n;
    } else {
        for (int32_t q = lead; q < end; q++) {
            for (int32_t c = 0; c < n; c++) {
                out[c] = from[c];
            }
            from += channels;
            out += n;
        }
    }
    (void)memset(out, p->input_zero_point, (size_t)((width - end) * n));
}

static void qc_output_row(const int8_t *ring, const qc_ring *r, const qc_depthwise_conv2d_s8_params *p, int32_t slot,
                          int32_t first, int32_t n, int8_t *y)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    const int32_t taps = v->kernel_width;
    for (int32_t col = 0; col < v->out_width; col++) {
        const int8_t *window = ring + (col * v->stride_width * n);
        for (int32_t c = 0; c < n; c++) {
            const int8_t *w = (const int8_t *)p->weights + first + c;
            int32_t acc = p->rescale.bias[first + c];
            int32_t line = slot;
            for (int32_t i = 0; i < v->kernel_height; i++) {
                const int8_t *from = window + (line * r->width * n) + c;
                for (int32_t j = 0; j < taps; j++) {
                    acc += *from * *w;
                    from += v->dilation_width * n;
                    w += channels;
                }
                line += v->dilation_height;
                if (line >= r->rows) {
                    line -= r->rows;
                }
            }
            y[c] = qc_finish(acc, &p->rescale, first + c);
        }
        y += channels;
    }
}

void qc_depthwise_conv2d_s8(const int8_t *x, int8_t *y, const qc_depthwise_conv2d_s8_params *p, void *scratch)
{
    const qc_window_params *v = &p->window;
    const qc_ring ring = qc_ring_of(p);
    for (int32_t first = 0; first < v->in_channels; first += ring.channels) {
        const int32_t n = ((v->in_channels - first) < ring.channels) ? (v->in_channels - first) : ring.channels;
        int32_t loaded = -v->pad_top; /* the next row of the image to gather */
        for (int32_t row = 0; row < v->out_height; row++) {
            const int32_t top = (row * v->stride_height) - v->pad_top;
            loaded = (loaded < top) ? top : loaded;
            for (; loaded < (top + ring.rows); loaded++) {
                const int32_t slot = (loaded + v->pad_top) % ring.rows;
                qc_load_row(x, p, (int8_t *)scratch + (slot * ring.width * n), ring.width, loaded, first, n);
            }
            qc_output_row((const int8_t *)scratch, &ring, p, (top + v->pad_top) % ring.rows, first, n,
                          y + (row * v->out_width * v->in_channels) + first);
        }
    }
}
