/* One row of outputs of a depthwise convolution, from the rows in its ring. */
#include "qc_internal.h"

#if defined(QC_DSP)
/* 3 x 3 without dilation, stride 1 or 2 along the row: the body below with three rows of weights in six words,
 * (w0, w1) and (w1, w2) of each. */
static int qc_is_three(const qc_window_params *v)
{
    return (v->kernel_height == 3) && (v->kernel_width == 3) && (v->dilation_width == 1) && (v->stride_width <= 2);
}

static uint32_t *qc_words_of(const qc_ring *ring, const void *scratch, int32_t c)
{
    return (uint32_t *)(uintptr_t)scratch + ((ring->channels * ring->rows * ring->width) / 2) + (6 * c);
}

void qc_depthwise_weights_s8(const qc_depthwise_conv2d_s8_params *p, const qc_ring *ring, void *scratch, int32_t first,
                             int32_t n)
{
    const int32_t channels = p->window.in_channels;
    if (!qc_is_three(&p->window)) {
        return;
    }
    for (int32_t c = 0; c < n; c++) {
        const int8_t *w = (const int8_t *)p->weights + first + c;
        uint32_t *words = qc_words_of(ring, scratch, c);
        for (int32_t i = 0; i < 3; i++) {
            const uint32_t middle = (uint32_t)(int32_t)w[channels];
            words[2 * i] = qc_low_halves((uint32_t)(int32_t)w[0], middle);
            words[(2 * i) + 1] = qc_low_halves(middle, (uint32_t)(int32_t)w[2 * channels]);
            w += 3 * channels;
        }
    }
}

/* What one channel's row needs. */
typedef struct {
    const int16_t *rows[3];
    const uint32_t *weights;
    int32_t bias;
    int32_t multiplier;
    int32_t shift;
    int32_t offset; /* 2 * zero_point + 1 */
    int32_t channels;
    int32_t width; /* of the output */
    int8_t *y;
} qc_line;

/* Sums of two neighbouring outputs: stride 1 reads (x0, x1), (x2, x3) of each row. */
#define QC_ROW_1(x, w01, w12)                          \
    do {                                               \
        const uint32_t lo = ((const qc_word *)(x))[0]; \
        const uint32_t hi = ((const qc_word *)(x))[1]; \
        a = qc_smlad(lo, (w01), a);                    \
        b = qc_smlatb(lo, (w01), b);                   \
        a = qc_smlabt(hi, (w12), a);                   \
        b = qc_smlad(hi, (w12), b);                    \
        (x) += 2;                                      \
    } while (0)

/* Stride 2 reads (x0, x1), (x2, x3), (x4, -). */
#define QC_ROW_2(x, w01, w12)                          \
    do {                                               \
        const uint32_t lo = ((const qc_word *)(x))[0]; \
        const uint32_t hi = ((const qc_word *)(x))[1]; \
        a = qc_smlad(lo, (w01), a);                    \
        b = qc_smlad(hi, (w01), b);                    \
        a = qc_smlabt(hi, (w12), a);                   \
        b = qc_smlabt(((const qc_word *)(x))[2], (w12), b); \
        (x) += 4;                                      \
    } while (0)

#define QC_LINE(ROW)                                                                             \
    const int16_t *r0 = line->rows[0];                                                           \
    const int16_t *r1 = line->rows[1];                                                           \
    const int16_t *r2 = line->rows[2];                                                           \
    const uint32_t w0 = line->weights[0], v0 = line->weights[1];                                 \
    const uint32_t w1 = line->weights[2], v1 = line->weights[3];                                 \
    const uint32_t w2 = line->weights[4], v2 = line->weights[5];                                 \
    int8_t *y = line->y;                                                                         \
    for (int32_t left = line->width; left > 0; left -= 2) {                                      \
        int32_t a = line->bias;                                                                  \
        int32_t b = a;                                                                           \
        ROW(r0, w0, v0);                                                                         \
        ROW(r1, w1, v1);                                                                         \
        ROW(r2, w2, v2);                                                                         \
        FINISH(y, a);                                                                            \
        if (left > 1) {                                                                          \
            FINISH(y + line->channels, b);                                                       \
        }                                                                                        \
        y += 2 * line->channels;                                                                 \
    }

#define FINISH(out, acc)                                                                                          \
    *(out) = (int8_t)qc_half_saturated((qc_mul_high((acc), line->multiplier) >> line->shift) + line->offset)
__attribute__((noinline)) static void qc_line_1(const qc_line *line)
{
    QC_LINE(QC_ROW_1)
}

__attribute__((noinline)) static void qc_line_2(const qc_line *line)
{
    QC_LINE(QC_ROW_2)
}
#undef FINISH

/* The same with every kind of rescaling. */
#define FINISH(out, acc) *(out) = qc_finish((acc), rescale, channel)
__attribute__((noinline)) static void qc_any_line_1(const qc_line *line, const qc_rescale_params *rescale, int32_t channel)
{
    QC_LINE(QC_ROW_1)
}

__attribute__((noinline)) static void qc_any_line_2(const qc_line *line, const qc_rescale_params *rescale, int32_t channel)
{
    QC_LINE(QC_ROW_2)
}

static void qc_any_window(const qc_depthwise_conv2d_s8_params *p, const qc_ring *ring, const int16_t *plane, int32_t slot,
                          int32_t channel, int8_t *y)
{
    const qc_window_params *v = &p->window;
    for (int32_t col = 0; col < v->out_width; col++) {
        const int8_t *w = (const int8_t *)p->weights + channel;
        int32_t acc = p->rescale.bias[channel];
        int32_t line = slot;
        for (int32_t i = 0; i < v->kernel_height; i++) {
            const int16_t *from = plane + (line * ring->width) + (col * v->stride_width);
            for (int32_t j = 0; j < v->kernel_width; j++) {
                acc += *from * *w;
                from += v->dilation_width;
                w += v->in_channels;
            }
            line += v->dilation_height;
            line -= (line >= ring->rows) ? ring->rows : 0;
        }
        *y = qc_finish(acc, &p->rescale, channel);
        y += v->in_channels;
    }
}

void qc_depthwise_row_s8(const qc_depthwise_conv2d_s8_params *p, const qc_ring *ring, const void *scratch, int32_t slot,
                         int32_t first, int32_t n, int8_t *y)
{
    const qc_window_params *v = &p->window;
    const int16_t *plane = (const int16_t *)scratch;
    for (int32_t c = 0; c < n; c++) {
        const int32_t channel = first + c;
        if (!qc_is_three(v)) {
            qc_any_window(p, ring, plane, slot, channel, y + c);
        } else {
            qc_line line;
            int32_t at = slot;
            for (int32_t i = 0; i < 3; i++) {
                line.rows[i] = plane + (at * ring->width);
                at += v->dilation_height;
                at -= (at >= ring->rows) ? ring->rows : 0;
            }
            line.weights = qc_words_of(ring, scratch, c);
            line.bias = p->rescale.bias[channel];
            line.multiplier = qc_multiplier_of(&p->rescale, channel);
            line.shift = p->rescale.shift[channel];
            line.offset = (2 * p->rescale.zero_point) + 1;
            line.channels = v->in_channels;
            line.width = v->out_width;
            line.y = y + c;
            const int quick = p->rescale.flags == (QC_PLAIN_SHIFTS | QC_FULL_RANGE);
            if (v->stride_width == 1) {
                if (quick) {
                    qc_line_1(&line);
                } else {
                    qc_any_line_1(&line, &p->rescale, channel);
                }
            } else {
                if (quick) {
                    qc_line_2(&line);
                } else {
                    qc_any_line_2(&line, &p->rescale, channel);
                }
            }
        }
        plane += ring->rows * ring->width;
    }
}
#else
void qc_depthwise_weights_s8(const qc_depthwise_conv2d_s8_params *p, const qc_ring *ring, void *scratch, int32_t first,
                             int32_t n)
{
    (void)p;
    (void)ring;
    (void)scratch;
    (void)first;
    (void)n;
}

void qc_depthwise_row_s8(const qc_depthwise_conv2d_s8_params *p, const qc_ring *ring, const void *scratch, int32_t slot,
                         int32_t first, int32_t n, int8_t *y)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    for (int32_t col = 0; col < v->out_width; col++) {
        const int8_t *window = (const int8_t *)scratch + (col * v->stride_width * n);
        for (int32_t c = 0; c < n; c++) {
            const int8_t *w = (const int8_t *)p->weights + first + c;
            int32_t acc = p->rescale.bias[first + c];
            int32_t line = slot;
            for (int32_t i = 0; i < v->kernel_height; i++) {
                const int8_t *from = window + (line * ring->width * n) + c;
                for (int32_t j = 0; j < v->kernel_width; j++) {
                    acc += *from * *w;
                    from += v->dilation_width * n;
                    w += channels;
                }
                line += v->dilation_height;
                line -= (line >= ring->rows) ? ring->rows : 0;
            }
            y[c] = qc_finish(acc, &p->rescale, first + c);
        }
        y += channels;
    }
}
#endif
