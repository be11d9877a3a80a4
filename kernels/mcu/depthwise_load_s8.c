/* One row of an image into the strip of a depthwise convolution: padded, and in pairs layout one plane of int16 per channel. */
#include "qc_internal.h"

#if defined(QC_DSP)
/* Four channels at a time, two pixels at a time; planes lie `plane` codes apart. */
static void qc_split_four(const int8_t *x, int32_t channels, int16_t *out, int32_t plane, int32_t pixels)
{
    int16_t *c0 = out;
    int16_t *c2 = out + (2 * plane);
    const int8_t *next = x + channels;
    for (; pixels >= 2; pixels -= 2) {
        const uint32_t a = *(const qc_unaligned_word *)(const void *)x;
        const uint32_t b = *(const qc_unaligned_word *)(const void *)next;
        const uint32_t even_a = qc_sxtb16(a);
        const uint32_t even_b = qc_sxtb16(b);
        const uint32_t odd_a = qc_sxtb16_ror8(a);
        const uint32_t odd_b = qc_sxtb16_ror8(b);
        *(qc_unaligned_word *)(void *)c0 = qc_low_halves(even_a, even_b);
        *(qc_unaligned_word *)(void *)(c0 + plane) = qc_low_halves(odd_a, odd_b);
        *(qc_unaligned_word *)(void *)c2 = qc_high_halves(even_a, even_b);
        *(qc_unaligned_word *)(void *)(c2 + plane) = qc_high_halves(odd_a, odd_b);
        x += 2 * channels;
        next += 2 * channels;
        c0 += 2;
        c2 += 2;
    }
    if (pixels != 0) {
        c0[0] = x[0];
        c0[plane] = x[1];
        c2[0] = x[2];
        c2[plane] = x[3];
    }
}

static void qc_fill(int16_t *out, int32_t n, int32_t value)
{
    for (int32_t i = 0; i < n; i++) {
        out[i] = (int16_t)value;
    }
}

void qc_depthwise_load_s8(const int8_t *x, const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch,
                          int32_t at, int32_t row, int32_t first, int32_t n)
{
    const qc_window_params *v = &p->window;
    const int32_t plane = strip->rows * strip->width;
    const int32_t channels = v->in_channels;
    const int inside = (row >= 0) && (row < v->in_height);
    const int32_t lead = (v->pad_left < strip->width) ? v->pad_left : strip->width;
    const int32_t end = ((v->in_width + v->pad_left) < strip->width) ? (v->in_width + v->pad_left) : strip->width;
    int16_t *out = (int16_t *)scratch + (at * strip->width);
    for (int32_t c = 0; c < n; c++) {
        int16_t *line = out + (c * plane);
        if (inside) {
            qc_fill(line, lead, p->input_zero_point);
            qc_fill(line + end, strip->width - end, p->input_zero_point);
        } else {
            qc_fill(line, strip->width, p->input_zero_point);
        }
    }
    if (!inside) {
        return;
    }
    const int8_t *from = x + (row * v->in_width * channels) + first;
    int32_t c = 0;
    for (; (c + 4) <= n; c += 4) {
        qc_split_four(from + c, channels, out + (c * plane) + lead, plane, end - lead);
    }
    for (; c < n; c++) {
        int16_t *line = out + (c * plane);
        for (int32_t q = lead; q < end; q++) {
            line[q] = from[((q - lead) * channels) + c];
        }
    }
}
#else
void qc_depthwise_load_s8(const int8_t *x, const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch,
                          int32_t at, int32_t row, int32_t first, int32_t n)
{
    const qc_window_params *v = &p->window;
    const int32_t width = strip->width;
    const int32_t channels = v->in_channels;
    int8_t *out = (int8_t *)scratch + (at * width * n);
    if ((row < 0) || (row >= v->in_height)) {
        qc_fill_bytes(out, p->input_zero_point, width * n);
        return;
    }
    const int32_t lead = (v->pad_left < width) ? v->pad_left : width;
    const int32_t end = ((v->in_width + v->pad_left) < width) ? (v->in_width + v->pad_left) : width;
    const int8_t *from = x + (row * v->in_width * channels) + first;
    qc_fill_bytes(out, p->input_zero_point, lead * n);
    out += lead * n;
    if (n == channels) {
        qc_copy_bytes(out, from, (end - lead) * n);
        out += (end - lead) * n;
    } else {
        for (int32_t q = lead; q < end; q++) {
            qc_copy_bytes(out, from, n);
            from += channels;
            out += n;
        }
    }
    qc_fill_bytes(out, p->input_zero_point, (width - end) * n);
}
#endif
