/* The inputs of one output pixel, in order (kernel row, kernel column, channel); outside the image, the zero point.
 *
 * In pairs layout codes are extended to 16 bits on the way when every run of consecutive codes is a multiple of four;
 * otherwise they are gathered as bytes first. */
#include "qc_internal.h"

/* Where the next codes go: `pitch` words from one pair to the next, 0 for bytes. */
typedef struct {
    void *at;
    int32_t pitch;
    int32_t zero_point;
} qc_writer;

#if defined(QC_DSP)
__attribute__((noinline)) static int8_t *qc_copy_codes(int8_t *out, const int8_t *x, int32_t n)
{
    for (; n >= 4; n -= 4) {
        *(qc_unaligned_word *)(void *)out = *(const qc_unaligned_word *)(const void *)x;
        out += 4;
        x += 4;
    }
    for (; n > 0; n--) {
        *out++ = *x++;
    }
    return out;
}

static inline void qc_write_codes(qc_writer *w, const int8_t *x, int32_t n)
{
    w->at = (w->pitch == 0) ? (void *)qc_copy_codes((int8_t *)w->at, x, n) : qc_extend(x, n, (qc_word *)w->at, w->pitch);
}

__attribute__((noinline)) static void qc_write_padding(qc_writer *w, int32_t n)
{
    const int32_t pitch = w->pitch;
    if (pitch == 0) {
        (void)memset(w->at, w->zero_point, (size_t)n);
        w->at = (int8_t *)w->at + n;
    } else {
        const uint32_t zeros = ((uint32_t)(uint16_t)w->zero_point) * 0x10001u;
        qc_word *out = (qc_word *)w->at;
        for (; n > 0; n -= 2) {
            *out = zeros;
            out += pitch;
        }
        w->at = out;
    }
}
#else
static inline void qc_write_codes(qc_writer *w, const int8_t *x, int32_t n)
{
    qc_copy_bytes((int8_t *)w->at, x, n);
    w->at = (int8_t *)w->at + n;
}

static void qc_write_padding(qc_writer *w, int32_t n)
{
    qc_fill_bytes((int8_t *)w->at, w->zero_point, n);
    w->at = (int8_t *)w->at + n;
}
#endif

/* A kernel row that the edge of the image cuts, or whose codes are not consecutive. */
static void qc_write_taps(qc_writer *w, const int8_t *line, const qc_window_params *v, int32_t left, int32_t run)
{
    int32_t c = left;
    for (int32_t j = 0; j < v->kernel_width; j++) {
        if ((c >= 0) && (c < v->in_width)) {
            qc_write_codes(w, line + (c * v->in_channels), run);
        } else {
            qc_write_padding(w, run);
        }
        c += v->dilation_width;
    }
}

static void qc_gather(qc_writer *w, const int8_t *x, const qc_window_params *v, int32_t run, int32_t top, int32_t left)
{
    const int32_t line_bytes = v->in_width * v->in_channels;
    const int32_t codes = v->kernel_width * run;
    const int consecutive = (run == v->in_channels) && (v->dilation_width == 1);
    const int whole = consecutive && (left >= 0) && ((left + v->kernel_width) <= v->in_width);
    const int32_t step = v->dilation_height;
    const int32_t bottom = top + (v->kernel_height * step);
    if (whole && (top >= 0) && (bottom <= (v->in_height + step - 1))) { /* most of them: nothing to look at on the way */
        const int8_t *line = x + (top * line_bytes) + (left * run);
        for (int32_t i = v->kernel_height; i > 0; i--) {
            qc_write_codes(w, line, codes);
            line += step * line_bytes;
        }
        return;
    }
    for (int32_t row = top; row < bottom; row += step) {
        if ((row < 0) || (row >= v->in_height)) {
            qc_write_padding(w, codes);
        } else if (whole) {
            qc_write_codes(w, x + (row * line_bytes) + (left * run), codes);
        } else {
            qc_write_taps(w, x + (row * line_bytes), v, left, run);
        }
    }
}

void qc_gather_s8(const int8_t *x, const qc_conv2d_s8_params *p, int32_t run, int32_t top, int32_t left, void *out,
                  int32_t pitch, void *spare)
{
#if defined(QC_DSP)
    if ((run % 4) != 0) {
        qc_writer w = {spare, 0, p->input_zero_point};
        qc_gather(&w, x, &p->window, run, top, left);
        qc_expand_s8((const int8_t *)spare, p->window.kernel_height * p->window.kernel_width * run, out, pitch);
    } else {
        qc_writer w = {out, pitch, p->input_zero_point};
        qc_gather(&w, x, &p->window, run, top, left);
    }
#else
    qc_writer w = {out, pitch, p->input_zero_point};
    (void)spare;
    qc_gather(&w, x, &p->window, run, top, left);
#endif
}
