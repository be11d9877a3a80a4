/* The inputs of one output pixel, in order (kernel row, kernel column, channel); outside the image, the zero point.
 *
 * Codes are gathered as bytes. In pairs layout they are extended to 16 bits on the way when every run of consecutive
 * codes is a multiple of four, and from the spare column otherwise. */
#include <string.h>

#include "qc_internal.h"

#if defined(QC_DSP)
typedef struct {
    qc_word *out;
    uint32_t zero; /* the zero point in both halves */
    int32_t pitch; /* words from one pair to the next */
} qc_writer;

static inline void qc_write_codes(qc_writer *w, const int8_t *x, int32_t n)
{
    qc_word *out = w->out;
    if (w->pitch == 3) {
        for (; n >= 8; n -= 8) {
            const uint32_t a = ((const qc_unaligned_word *)(const void *)x)[0];
            const uint32_t b = ((const qc_unaligned_word *)(const void *)x)[1];
            out[0] = qc_sxtb16(a);
            out[3] = qc_sxtb16_ror8(a);
            out[6] = qc_sxtb16(b);
            out[9] = qc_sxtb16_ror8(b);
            x += 8;
            out += 12;
        }
    }
    const int32_t pitch = w->pitch;
    for (; n > 0; n -= 4) {
        const uint32_t a = ((const qc_unaligned_word *)(const void *)x)[0];
        out[0] = qc_sxtb16(a);
        out[pitch] = qc_sxtb16_ror8(a);
        x += 4;
        out += 2 * pitch;
    }
    w->out = out;
}

static inline void qc_write_padding(qc_writer *w, int32_t n)
{
    for (; n > 0; n -= 2) {
        *w->out = w->zero;
        w->out += w->pitch;
    }
}
#else
typedef struct {
    int8_t *out;
    int32_t zero;
} qc_writer;

static inline void qc_write_codes(qc_writer *w, const int8_t *x, int32_t n)
{
    (void)memcpy(w->out, x, (size_t)n);
    w->out += n;
}

static inline void qc_write_padding(qc_writer *w, int32_t n)
{
    (void)memset(w->out, w->zero, (size_t)n);
    w->out += n;
}
#endif

/* One kernel row inside the image: columns before, inside and after it. */
static void qc_write_row(qc_writer *w, const int8_t *row, const qc_conv2d_s8_params *p, int32_t left, int32_t run)
{
    const qc_window_params *v = &p->window;
    const int32_t step = v->dilation_width;
    if ((left >= 0) && ((left + ((v->kernel_width - 1) * step)) < v->in_width) && (step == 1) && (p->groups == 1)) {
        qc_write_codes(w, row + (left * v->in_channels), run * v->kernel_width);
        return;
    }
    for (int32_t j = 0; j < v->kernel_width; j++) {
        const int32_t x = left + (j * step);
        if ((x >= 0) && (x < v->in_width)) {
            qc_write_codes(w, row + (x * v->in_channels), run);
        } else {
            qc_write_padding(w, run);
        }
    }
}

static void qc_gather(qc_writer *w, const int8_t *x, const qc_conv2d_s8_params *p, int32_t row, int32_t col,
                      int32_t group)
{
    const qc_window_params *v = &p->window;
    const int32_t run = v->in_channels / p->groups;
    const int32_t top = (row * v->stride_height) - v->pad_top;
    const int32_t left = (col * v->stride_width) - v->pad_left;
    for (int32_t i = 0; i < v->kernel_height; i++) {
        const int32_t y = top + (i * v->dilation_height);
        if ((y >= 0) && (y < v->in_height)) {
            qc_write_row(w, x + (y * v->in_width * v->in_channels) + (group * run), p, left, run);
        } else {
            qc_write_padding(w, run * v->kernel_width);
        }
    }
}

#if defined(QC_DSP)
/* Runs that are no multiple of four: bytes first. */
static void qc_gather_bytes(int8_t *out, const int8_t *x, const qc_conv2d_s8_params *p, int32_t row, int32_t col,
                            int32_t group)
{
    const qc_window_params *v = &p->window;
    const int32_t run = v->in_channels / p->groups;
    for (int32_t i = 0; i < v->kernel_height; i++) {
        const int32_t y = (row * v->stride_height) - v->pad_top + (i * v->dilation_height);
        for (int32_t j = 0; j < v->kernel_width; j++) {
            const int32_t c = (col * v->stride_width) - v->pad_left + (j * v->dilation_width);
            const int inside = (y >= 0) && (y < v->in_height) && (c >= 0) && (c < v->in_width);
            const int8_t *from = x + (((y * v->in_width) + c) * v->in_channels) + (group * run);
            for (int32_t k = 0; k < run; k++) {
                out[k] = inside ? from[k] : (int8_t)p->input_zero_point;
            }
            out += run;
        }
    }
}

void qc_gather_s8(const int8_t *x, const qc_conv2d_s8_params *p, int32_t row, int32_t col, int32_t group, void *columns,
                  int32_t index, int32_t count, void *spare)
{
    const qc_window_params *v = &p->window;
    const int32_t run = v->in_channels / p->groups;
    const int32_t k = v->kernel_height * v->kernel_width * run;
    if ((run % 4) != 0) {
        qc_gather_bytes((int8_t *)spare, x, p, row, col, group);
        qc_expand_s8((const int8_t *)spare, k, columns, index, count);
        return;
    }
    const int32_t tiled = count - (count % 3);
    const int32_t words = k / 2;
    qc_writer w = {(qc_word *)columns, ((uint32_t)(uint16_t)p->input_zero_point) * 0x10001u, 1};
    if (index < tiled) {
        w.out += ((index / 3) * 3 * words) + (index % 3);
        w.pitch = 3;
    } else {
        w.out += index * words;
    }
    qc_gather(&w, x, p, row, col, group);
}
#else
void qc_gather_s8(const int8_t *x, const qc_conv2d_s8_params *p, int32_t row, int32_t col, int32_t group, void *columns,
                  int32_t index, int32_t count, void *spare)
{
    const qc_window_params *v = &p->window;
    const int32_t k = v->kernel_height * v->kernel_width * (v->in_channels / p->groups);
    qc_writer w = {(int8_t *)columns + (index * k), p->input_zero_point};
    (void)count;
    (void)spare;
    qc_gather(&w, x, p, row, col, group);
}
#endif
