/* Rows of outputs of a depthwise convolution with the DSP extension, from the rows in its strip. */
#include "qc_internal.h"

#if defined(QC_DSP)
/* 3 x 3 without dilation along the row, stride 1 or 2 there: the body below. */
static int qc_is_three(const qc_window_params *v)
{
    return (v->kernel_height == 3) && (v->kernel_width == 3) && (v->dilation_width == 1) && (v->stride_width <= 2);
}

/* (w0, w1), (w1, w2) of each row of a channel's weights. */
static void qc_prepare(const int8_t *w, int32_t channels, uint32_t *words)
{
    for (int32_t i = 0; i < 3; i++) {
        const uint32_t middle = (uint32_t)(int32_t)w[channels];
        words[2 * i] = qc_low_halves((uint32_t)(int32_t)w[0], middle);
        words[(2 * i) + 1] = qc_low_halves(middle, (uint32_t)(int32_t)w[2 * channels]);
        w += 3 * channels;
    }
}

/* What one channel needs; the loop needs all registers. The order is that of the code's loads. */
typedef struct {
    int32_t multiplier;     /* sp, 0 */
    int32_t shift;          /* 4 */
    int32_t offset;         /* 8: 2 * zero_point + 1 */
    int32_t channels;       /* 12 */
    int32_t bias;           /* 16 */
    int32_t end;            /* 20: of the pairs of a row of outputs; set by the code */
    int32_t pair_bytes;     /* 24: from the start of a row of outputs to that */
    int32_t next;           /* 28: from the end of a row of the strip to the next row that is needed */
    int32_t rows;           /* 32 */
    int32_t odd;            /* 36: a last output without a partner */
    int32_t pitch;          /* 40: bytes from one row under the kernel to the next */
    int8_t *y;              /* 44 */
    const int16_t *x;
    const uint32_t *weights;
} qc_line;

/* Two outputs (r9, r10) from one row: stride 1 reads (x0, x1), (x2, x3). */
#define QC_PAIR_1(x, w01, w12)              \
    "ldrd r11, r12, [" x "], #4\n\t"        \
    "smlad r9, r11, " w01 ", r9\n\t"        \
    "smlatb r10, r11, " w01 ", r10\n\t"     \
    "smlabt r9, r12, " w12 ", r9\n\t"       \
    "smlad r10, r12, " w12 ", r10\n\t"
/* Stride 2 reads (x0, x1), (x2, x3), (x4, -). */
#define QC_PAIR_2(x, w01, w12)              \
    "ldrd r11, r12, [" x "], #8\n\t"        \
    "smlad r9, r11, " w01 ", r9\n\t"        \
    "smlad r10, r12, " w01 ", r10\n\t"      \
    "smlabt r9, r12, " w12 ", r9\n\t"       \
    "ldr r11, [" x "]\n\t"                  \
    "smlabt r10, r11, " w12 ", r10\n\t"
#define QC_LAST(x, w01, w12, step)          \
    "ldrd r11, r12, [" x "], #" step "\n\t" \
    "smlad r9, r11, " w01 ", r9\n\t"        \
    "smlabt r9, r12, " w12 ", r9\n\t"

/* Rescaling where the high word is enough: SMMUL, ASR, ADD, SSAT with ASR #1. */
#define QC_LINES(PAIR, step)                                                                             \
    register const qc_line *t __asm__("r0") = line;                                                      \
    __asm__ volatile("ldm r0!, {r1-r12}\n\t"                                                             \
                     "push {r1-r12}\n\t"                                                                 \
                     "mov lr, r12\n\t"                                                                   \
                     "ldm r0, {r0, r9}\n\t"                                                              \
                     "add r1, r0, r11\n\t"                                                               \
                     "add r2, r1, r11\n\t"                                                               \
                     "ldm r9, {r3-r8}\n\t"                                                               \
                     "1:\n\t"                                                                            \
                     "ldr r11, [sp, #24]\n\t"                                                            \
                     "adds r11, lr, r11\n\t"                                                             \
                     "str r11, [sp, #20]\n\t"                                                            \
                     "b 3f\n\t"                                                                          \
                     "2:\n\t"                                                                            \
                     "ldr r9, [sp, #16]\n\t"                                                             \
                     "mov r10, r9\n\t" PAIR("r0", "r3", "r4") PAIR("r1", "r5", "r6") PAIR("r2", "r7", "r8") \
                     "ldrd r11, r12, [sp]\n\t"                                                           \
                     "smmul r9, r9, r11\n\t"                                                             \
                     "smmul r10, r10, r11\n\t"                                                           \
                     "asr r9, r9, r12\n\t"                                                               \
                     "asr r10, r10, r12\n\t"                                                             \
                     "ldrd r11, r12, [sp, #8]\n\t"                                                       \
                     "add r9, r9, r11\n\t"                                                               \
                     "add r10, r10, r11\n\t"                                                             \
                     "ssat r9, #8, r9, asr #1\n\t"                                                       \
                     "ssat r10, #8, r10, asr #1\n\t"                                                     \
                     "strb r9, [lr]\n\t"                                                                 \
                     "strb r10, [lr, r12]\n\t"                                                           \
                     "add lr, lr, r12, lsl #1\n\t"                                                       \
                     "ldr r11, [sp, #20]\n\t"                                                            \
                     "3:\n\t"                                                                            \
                     "cmp lr, r11\n\t"                                                                   \
                     "bne 2b\n\t"                                                                        \
                     "ldr r11, [sp, #36]\n\t"                                                            \
                     "cmp r11, #0\n\t"                                                                   \
                     "beq 4f\n\t"                                                                        \
                     "ldr r9, [sp, #16]\n\t" QC_LAST("r0", "r3", "r4", step)                             \
                         QC_LAST("r1", "r5", "r6", step) QC_LAST("r2", "r7", "r8", step)                 \
                     "ldrd r11, r12, [sp]\n\t"                                                           \
                     "smmul r9, r9, r11\n\t"                                                             \
                     "asr r9, r9, r12\n\t"                                                               \
                     "ldrd r11, r12, [sp, #8]\n\t"                                                       \
                     "add r9, r9, r11\n\t"                                                               \
                     "ssat r9, #8, r9, asr #1\n\t"                                                       \
                     "strb r9, [lr]\n\t"                                                                 \
                     "add lr, lr, r12\n\t"                                                               \
                     "4:\n\t"                                                                            \
                     "ldr r11, [sp, #28]\n\t"                                                            \
                     "add r0, r0, r11\n\t"                                                               \
                     "add r1, r1, r11\n\t"                                                               \
                     "add r2, r2, r11\n\t"                                                               \
                     "ldr r11, [sp, #32]\n\t"                                                            \
                     "subs r11, r11, #1\n\t"                                                             \
                     "str r11, [sp, #32]\n\t"                                                            \
                     "bne 1b\n\t"                                                                        \
                     "add sp, sp, #48"                                                                   \
                     : "+r"(t)                                                                           \
                     :                                                                                   \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr",  \
                       "cc", "memory")

__attribute__((noinline)) static void qc_lines_1(const qc_line *line)
{
    QC_LINES(QC_PAIR_1, "4");
}

__attribute__((noinline)) static void qc_lines_2(const qc_line *line)
{
    QC_LINES(QC_PAIR_2, "8");
}

/* Any window and any rescaling. */
static void qc_any_window(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, const int16_t *plane,
                          int32_t channel, int32_t rows, int8_t *y)
{
    const qc_window_params *v = &p->window;
    for (int32_t row = 0; row < rows; row++) {
        for (int32_t col = 0; col < v->out_width; col++) {
            const int8_t *w = (const int8_t *)p->weights + channel;
            const int16_t *line = plane + (col * v->stride_width);
            int32_t acc = p->rescale.bias[channel];
            for (int32_t i = 0; i < v->kernel_height; i++) {
                const int16_t *from = line;
                for (int32_t j = 0; j < v->kernel_width; j++) {
                    acc += *from * *w;
                    from += v->dilation_width;
                    w += v->in_channels;
                }
                line += v->dilation_height * strip->width;
            }
            *y = qc_finish(acc, &p->rescale, channel);
            y += v->in_channels;
        }
        plane += v->stride_height * strip->width;
    }
}

static void qc_three(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, const int16_t *plane,
                     int32_t channel, int32_t rows, uint32_t *words, int8_t *y)
{
    const qc_window_params *v = &p->window;
    const int32_t pairs = (v->out_width + 1) / 2;
    qc_line line;
    qc_prepare((const int8_t *)p->weights + channel, v->in_channels, words);
    line.multiplier = qc_multiplier_of(&p->rescale, channel);
    line.shift = p->rescale.shift[channel];
    line.offset = (2 * p->rescale.zero_point) + 1;
    line.channels = v->in_channels;
    line.bias = p->rescale.bias[channel];
    line.end = 0;
    line.pair_bytes = (v->out_width & ~1) * v->in_channels;
    line.next = (2 * v->stride_height * strip->width) - (4 * v->stride_width * pairs);
    line.rows = rows;
    line.odd = v->out_width & 1;
    line.pitch = 2 * v->dilation_height * strip->width;
    line.y = y;
    line.x = plane;
    line.weights = words;
    if (v->stride_width == 1) {
        qc_lines_1(&line);
    } else {
        qc_lines_2(&line);
    }
}

void qc_depthwise_rows_s8(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch, int32_t first,
                          int32_t n, int32_t rows, int8_t *y)
{
    const int32_t plane = strip->rows * strip->width;
    const int quick = qc_is_quick(&p->rescale) && qc_is_three(&p->window);
    int16_t *x = (int16_t *)scratch;
    uint32_t *words = (uint32_t *)(void *)(x + (strip->channels * plane));
    for (int32_t c = 0; c < n; c++) {
        if (quick) {
            qc_three(p, strip, x, first + c, rows, words, y + c);
        } else {
            qc_any_window(p, strip, x, first + c, rows, y + c);
        }
        x += plane;
    }
    if (quick) {
        qc_limit(y, rows * p->window.out_width, n, p->window.in_channels, &p->rescale);
    }
}
#endif
