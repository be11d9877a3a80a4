/* Convolution of int8 codes with per-channel rescaling: blocks of output pixels are gathered (im2col) and multiplied
 * with all filters.
 *
 *   acc[c] = bias[c] + sum_k x[k] w[c, k]                           int32, proven by the compiler not to overflow
 *   y[c]   = clip(rescale(acc[c]) + zero_point, qmin, qmax)         qc_fixed_point.h
 *
 * Pixels are written in order; a block is written after everything it reads was gathered (groups == 1), which is what
 * overlap.py builds on. */
#include "qc_internal.h"

static int32_t qc_inputs(const qc_conv2d_s8_params *p)
{
    return p->window.kernel_height * p->window.kernel_width * (p->window.in_channels / p->groups);
}

/* One column to spare where gathering needs bytes first. */
static int32_t qc_spare_bytes(const qc_conv2d_s8_params *p)
{
#if defined(QC_DSP)
    return (((p->window.in_channels / p->groups) % 4) != 0) ? qc_column_bytes(qc_inputs(p)) : 0;
#else
    (void)p;
    return 0;
#endif
}

static int32_t qc_block(const qc_conv2d_s8_params *p)
{
    const int32_t pixels = p->window.out_height * p->window.out_width;
    return (p->columns < pixels) ? p->columns : pixels;
}

int32_t qc_conv2d_s8_scratch_bytes(const qc_conv2d_s8_params *p)
{
    return (qc_block(p) * qc_column_bytes(qc_inputs(p))) + qc_spare_bytes(p);
}

int32_t qc_conv2d_add_s8_scratch_bytes(const qc_conv2d_s8_params *p)
{
    return qc_conv2d_s8_scratch_bytes(p) + (qc_block(p) * p->window.out_channels);
}

/* Gathers `count` columns of one group from output pixel (row, col) on. */
static void qc_gather_block(const int8_t *x, const qc_conv2d_s8_params *p, int32_t row, int32_t col, int32_t count,
                            void *columns, int32_t bytes, void *spare)
{
    const qc_window_params *v = &p->window;
    const int32_t run = v->in_channels / p->groups;
    const int32_t stride = v->stride_width;
    const int32_t right = (v->out_width * stride) - v->pad_left;
    int32_t top = (row * v->stride_height) - v->pad_top;
    int32_t left = (col * stride) - v->pad_left;
    for (int32_t i = 0; i < count; i++) {
        int32_t pitch;
        void *out = qc_column_at(columns, i, count, bytes, &pitch);
        qc_gather_s8(x, p, run, top, left, out, pitch, spare);
        left += stride;
        if (left == right) {
            left = -v->pad_left;
            top += v->stride_height;
        }
    }
}

/* The same for a pointwise convolution without stride, padding and groups: pixels are columns. */
static void qc_expand_block(const int8_t *x, int32_t k, int32_t count, void *columns, int32_t bytes)
{
    for (int32_t i = 0; i < count; i++) {
        int32_t pitch;
        void *out = qc_column_at(columns, i, count, bytes, &pitch);
        qc_expand_s8(x, k, out, pitch);
        x += k;
    }
}

static int qc_is_pointwise(const qc_conv2d_s8_params *p)
{
    const qc_window_params *v = &p->window;
    return ((v->kernel_height * v->kernel_width * v->stride_height * v->stride_width * p->groups) == 1) &&
           (v->pad_top == 0) && (v->pad_left == 0) && (v->out_height == v->in_height) && (v->out_width == v->in_width);
}

void qc_conv2d_add_s8(const int8_t *x, const int8_t *residual, int8_t *y, const qc_conv2d_s8_params *p,
                      const qc_add_params *add, void *scratch)
{
    const int32_t width = p->window.out_width;
    const int32_t pixels = p->window.out_height * width;
    const int32_t channels = p->window.out_channels;
    const int32_t per_group = channels / p->groups;
    const int32_t k = qc_inputs(p);
    const int32_t bytes = qc_column_bytes(k);
    const int32_t weight_bytes = qc_packed_weight_bytes(per_group, k, p->weight_bits);
    const int32_t block = qc_block(p);
    const int pointwise = qc_is_pointwise(p);
    int8_t *spare = (int8_t *)scratch + (block * bytes);
    int8_t *sums = spare + qc_spare_bytes(p);
    int32_t row = 0;
    int32_t col = 0;
    for (int32_t pixel = 0; pixel < pixels; pixel += block) {
        const int32_t count = ((pixels - pixel) < block) ? (pixels - pixel) : block;
        int8_t *out = (residual == 0) ? y : sums;
        for (int32_t group = 0; group < p->groups; group++) {
            const int32_t first = group * per_group;
            const int8_t *w = (const int8_t *)p->weights + (group * weight_bytes);
            if (pointwise) {
                qc_expand_block(x + (pixel * k), k, count, scratch, bytes);
            } else {
                qc_gather_block(x + (group * (p->window.in_channels / p->groups)), p, row, col, count, scratch, bytes,
                                spare);
            }
#if defined(QC_INT4)
            if (p->weight_bits == 4) {
                qc_product_s4(scratch, count, k, w, &p->rescale, first, per_group, out + first, channels);
            } else
#endif
            {
                qc_product_s8(scratch, count, k, w, &p->rescale, first, per_group, out + first, channels);
            }
        }
        if (residual != 0) {
            qc_add_s8(sums, residual, y, count * channels, count * channels, add);
            residual += count * channels;
        }
        y += count * channels;
        for (col += count; col >= width; col -= width) {
            row++;
        }
    }
}

void qc_conv2d_s8(const int8_t *x, int8_t *y, const qc_conv2d_s8_params *p, void *scratch)
{
    qc_conv2d_add_s8(x, 0, y, p, 0, scratch);
}
