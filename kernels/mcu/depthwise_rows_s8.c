/* Rows of outputs of a depthwise convolution, from the rows in its strip; depthwise_rows_dsp_s8.c has the DSP body. */
#include "qc_internal.h"

#if !defined(QC_DSP)
/* Any window and any rescaling. */
static void qc_any_window(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, const void *scratch,
                          int32_t first, int32_t n, int32_t rows, int8_t *y)
{
    const qc_window_params *v = &p->window;
    const int32_t channels = v->in_channels;
    for (int32_t row = 0; row < rows; row++) {
        const int8_t *window = (const int8_t *)scratch + (row * v->stride_height * strip->width * n);
        for (int32_t col = 0; col < v->out_width; col++) {
            for (int32_t c = 0; c < n; c++) {
                const int8_t *w = (const int8_t *)p->weights + first + c;
                const int8_t *line = window + c;
                int32_t acc = p->rescale.bias[first + c];
                for (int32_t i = 0; i < v->kernel_height; i++) {
                    const int8_t *from = line;
                    for (int32_t j = 0; j < v->kernel_width; j++) {
                        acc += *from * *w;
                        from += v->dilation_width * n;
                        w += channels;
                    }
                    line += v->dilation_height * strip->width * n;
                }
                y[c] = qc_finish(acc, &p->rescale, first + c);
            }
            window += v->stride_width * n;
            y += channels;
        }
    }
}

#if defined(QC_MVE)
/* Sixteen channels as four vectors of sums: channels 0 4 8 12, 2 6 10 14, 1 5 9 13, 3 7 11 15, which is how products
 * and widening split them. What the loops need is brought into that order once. */
typedef struct {
    int32_t bias[16];
    int32_t multiplier[16];
    int32_t shift[16]; /* to the left: -1 - shift */
    int8_t weights[9][16];
    int32_t spilled[4];
    int8_t qmin[16];
    int8_t qmax[16];
} qc_prepared;

static int32_t qc_channel_of(int32_t lane)
{
    return ((lane & 3) * 4) + ((lane & 4) >> 1) + (lane >> 3);
}

static void qc_prepare(const qc_depthwise_conv2d_s8_params *p, int32_t first, int32_t n, qc_prepared *to)
{
    const qc_rescale_params *r = &p->rescale;
    const int32_t channels = p->window.in_channels;
    for (int32_t i = 0; i < 16; i++) {
        const int32_t at = qc_channel_of(i);
        const int32_t c = first + ((at < n) ? at : 0);
        to->bias[i] = r->bias[c];
        to->multiplier[i] = qc_multiplier_of(r, c);
        to->shift[i] = -1 - r->shift[c];
    }
    vstrbq_s8(to->qmin, vdupq_n_s8((int8_t)r->qmin));
    vstrbq_s8(to->qmax, vdupq_n_s8((int8_t)r->qmax));
    if ((p->window.kernel_height == 3) && (p->window.kernel_width == 3)) {
        const mve_pred16_t lanes = vctp8q((uint32_t)n);
        for (int32_t i = 0; i < 9; i++) {
            vstrbq_s8(to->weights[i], vldrbq_z_s8((const int8_t *)p->weights + first + (i * channels), lanes));
        }
    }
}

/* Products of two taps, added in 16 bits and then to the sums; the fourth vector of sums comes from memory. */
#define QC_TAP(x, weights)                           \
    "vldrb.u8 q4, [" x "]\n\t"                       \
    "vldrw.u32 q7, [%[p], #" weights "]\n\t"
#define QC_WIDEN                                     \
    "vmovlb.s16 q7, q6\n\t"                          \
    "vadd.i32 q0, q0, q7\n\t"                        \
    "vmovlt.s16 q6, q6\n\t"                          \
    "vadd.i32 q1, q1, q6\n\t"                        \
    "vmovlb.s16 q7, q5\n\t"                          \
    "vadd.i32 q2, q2, q7\n\t"                        \
    "vmovlt.s16 q5, q5\n\t"
#define QC_FIRST_OF_PAIR(x, weights)                 \
    QC_TAP(x, weights)                               \
    "vmullb.s8 q6, q4, q7\n\t"                       \
    "vmullt.s8 q5, q4, q7\n\t"
#define QC_SECOND_OF_PAIR(x, weights, from)          \
    QC_TAP(x, weights)                               \
    "vmullb.s8 q3, q4, q7\n\t"                       \
    "vmullt.s8 q4, q4, q7\n\t"                       \
    "vadd.i16 q6, q6, q3\n\t"                        \
    "vadd.i16 q5, q5, q4\n\t" QC_WIDEN               \
    "vldrw.u32 q3, [%[p], #" from "]\n\t"            \
    "vadd.i32 q3, q3, q5\n\t"                        \
    "vstrw.32 q3, [%[p], #336]\n\t"
#define QC_RESCALE(sums, multiplier, shift)          \
    "vldrw.u32 q4, [%[p], #" multiplier "]\n\t"      \
    "vmulh.s32 " sums ", " sums ", q4\n\t"           \
    "vldrw.u32 q4, [%[p], #" shift "]\n\t"           \
    "vrshl.s32 " sums ", " sums ", q4\n\t"           \
    "vadd.i32 " sums ", " sums ", %[zero]\n\t"

/* A row of outputs of sixteen channels or fewer, 3 x 3, no weight -128. Offsets are those in qc_prepared. */
__attribute__((noinline)) static void qc_three_row(const int8_t *x, int32_t x_step, int32_t row_step, int32_t col_step,
                                                   int8_t *y, int32_t y_step, int32_t count, const qc_prepared *p,
                                                   int32_t zero_point, int32_t channels)
{
    const int8_t *row;
    const int8_t *at;
    __asm__ volatile("vctp.8 %[channels]\n\t"
                     "1:\n\t"
                     "vldrw.u32 q0, [%[p]]\n\t"
                     "vldrw.u32 q1, [%[p], #16]\n\t"
                     "vldrw.u32 q2, [%[p], #32]\n\t" QC_FIRST_OF_PAIR("%[x]", "192")
                     "add %[at], %[x], %[col]\n\t" QC_SECOND_OF_PAIR("%[at]", "208", "48")
                     "add %[at], %[at], %[col]\n\t" QC_FIRST_OF_PAIR("%[at]", "224")
                     "add %[row], %[x], %[pitch]\n\t" QC_SECOND_OF_PAIR("%[row]", "240", "336")
                     "add %[at], %[row], %[col]\n\t" QC_FIRST_OF_PAIR("%[at]", "256")
                     "add %[at], %[at], %[col]\n\t" QC_SECOND_OF_PAIR("%[at]", "272", "336")
                     "add %[row], %[row], %[pitch]\n\t" QC_FIRST_OF_PAIR("%[row]", "288")
                     "add %[at], %[row], %[col]\n\t" QC_SECOND_OF_PAIR("%[at]", "304", "336")
                     "add %[at], %[at], %[col]\n\t" QC_FIRST_OF_PAIR("%[at]", "320") QC_WIDEN
                     "vadd.i32 q3, q3, q5\n\t" QC_RESCALE("q0", "64", "128") QC_RESCALE("q1", "80", "144")
                         QC_RESCALE("q2", "96", "160") QC_RESCALE("q3", "112", "176")
                     "vqmovnb.s32 q4, q0\n\t"
                     "vqmovnt.s32 q4, q1\n\t"
                     "vqmovnb.s32 q5, q2\n\t"
                     "vqmovnt.s32 q5, q3\n\t"
                     "vqmovnb.s16 q6, q4\n\t"
                     "vqmovnt.s16 q6, q5\n\t"
                     "vldrw.u32 q4, [%[p], #352]\n\t"
                     "vldrw.u32 q5, [%[p], #368]\n\t"
                     "vmax.s8 q6, q6, q4\n\t"
                     "vmin.s8 q6, q6, q5\n\t"
                     "vpst\n\t"
                     "vstrbt.8 q6, [%[y]]\n\t"
                     "add %[x], %[x], %[xs]\n\t"
                     "add %[y], %[y], %[ys]\n\t"
                     "subs %[count], %[count], #1\n\t"
                     "bne 1b"
                     : [x] "+r"(x), [y] "+r"(y), [count] "+r"(count), [row] "=&r"(row), [at] "=&r"(at)
                     : [p] "r"(p), [xs] "r"(x_step), [ys] "r"(y_step), [pitch] "r"(row_step), [col] "r"(col_step),
                       [zero] "r"(zero_point), [channels] "r"(channels)
                     : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc", "memory");
}

typedef struct {
    int32x4_t v[4];
} qc_sums;

static inline void qc_widen(qc_sums *sums, int16x8_t even, int16x8_t odd)
{
    sums->v[0] = vaddq_s32(sums->v[0], vmovlbq_s16(even));
    sums->v[1] = vaddq_s32(sums->v[1], vmovltq_s16(even));
    sums->v[2] = vaddq_s32(sums->v[2], vmovlbq_s16(odd));
    sums->v[3] = vaddq_s32(sums->v[3], vmovltq_s16(odd));
}

/* One output of sixteen channels, any window. */
static inline void qc_window(qc_sums *sums, const int8_t *x, int32_t row_step, int32_t col_step, const int8_t *w,
                             int32_t w_step, const qc_window_params *v, mve_pred16_t lanes)
{
    for (int32_t i = 0; i < v->kernel_height; i++) {
        for (int32_t j = 0; j < v->kernel_width; j++) {
            const int8x16_t a = vldrbq_z_s8(x + (j * col_step), lanes);
            const int8x16_t b = vldrbq_z_s8(w, lanes);
            qc_widen(sums, vmullbq_int_s8(a, b), vmulltq_int_s8(a, b));
            w += w_step;
        }
        x += row_step;
    }
}

static inline int32x4_t qc_rescale_four(int32x4_t v, const qc_prepared *p, int32_t at, int32_t zero_point)
{
    v = vrshlq_s32(vmulhq_s32(v, vldrwq_s32(p->multiplier + at)), vldrwq_s32(p->shift + at));
    return vaddq_n_s32(v, zero_point);
}

static void qc_any_row(const int8_t *x, int32_t x_step, int32_t row_step, int32_t col_step, int8_t *y,
                       const qc_depthwise_conv2d_s8_params *p, const qc_prepared *prepared, const int8_t *w,
                       int32_t channels)
{
    const mve_pred16_t lanes = vctp8q((uint32_t)channels);
    const int32_t zero_point = p->rescale.zero_point;
    for (int32_t col = p->window.out_width; col > 0; col--) {
        qc_sums sums;
        for (int32_t i = 0; i < 4; i++) {
            sums.v[i] = vldrwq_s32(prepared->bias + (4 * i));
        }
        qc_window(&sums, x, row_step, col_step, w, p->window.in_channels, &p->window, lanes);
        int16x8_t even = vqmovnbq_s32(vdupq_n_s16(0), qc_rescale_four(sums.v[0], prepared, 0, zero_point));
        even = vqmovntq_s32(even, qc_rescale_four(sums.v[1], prepared, 4, zero_point));
        int16x8_t odd = vqmovnbq_s32(vdupq_n_s16(0), qc_rescale_four(sums.v[2], prepared, 8, zero_point));
        odd = vqmovntq_s32(odd, qc_rescale_four(sums.v[3], prepared, 12, zero_point));
        const int8x16_t codes = vqmovntq_s16(vqmovnbq_s16(vdupq_n_s8(0), even), odd);
        const int8x16_t limited = vminq_s8(vmaxq_s8(codes, vldrbq_s8(prepared->qmin)), vldrbq_s8(prepared->qmax));
        vstrbq_p_s8(y, limited, lanes);
        x += x_step;
        y += p->window.in_channels;
    }
}
#endif

void qc_depthwise_rows_s8(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch, int32_t first,
                          int32_t n, int32_t rows, int8_t *y)
{
#if defined(QC_MVE)
    if (qc_is_quick(&p->rescale)) {
        const qc_window_params *v = &p->window;
        const int32_t bytes = strip->rows * strip->width * strip->channels;
        const int32_t line = strip->width * n;
        qc_prepared *prepared = (qc_prepared *)(void *)((int8_t *)scratch + ((bytes + 3) & ~3));
        const int three = ((p->rescale.flags & QC_NARROW_WEIGHTS) != 0) && (v->kernel_height == 3) && (v->kernel_width == 3);
        for (int32_t c = 0; c < n; c += 16) {
            const int8_t *x = (const int8_t *)scratch + c;
            const int8_t *w = (const int8_t *)p->weights + first + c;
            const int32_t used = ((n - c) < 16) ? (n - c) : 16;
            int8_t *out = y + c;
            qc_prepare(p, first + c, used, prepared);
            for (int32_t row = 0; row < rows; row++) {
                if (three) {
                    qc_three_row(x, v->stride_width * n, v->dilation_height * line, v->dilation_width * n, out,
                                 v->in_channels, v->out_width, prepared, p->rescale.zero_point, used);
                } else {
                    qc_any_row(x, v->stride_width * n, v->dilation_height * line, v->dilation_width * n, out, p, prepared,
                               w, used);
                }
                x += v->stride_height * line;
                out += v->out_width * v->in_channels;
            }
        }
        return;
    }
#endif
    qc_any_window(p, strip, scratch, first, n, rows, y);
}
#endif
