/* Integer kernels for microcontrollers: parameters and prototypes.
 *
 * Conventions, for all functions:
 *   - activations are int8 codes (int16 where the name says s16), NHWC, batch 1; a batch is a loop of the caller;
 *   - no heap, no globals, no float; nothing is written except y and scratch;
 *   - scratch is owned by the caller, 8-byte aligned, its size given by the function of the same name with
 *     _scratch_bytes (0: NULL may be passed); its contents mean nothing before and after a call;
 *   - x and y do not overlap unless the function says how they may;
 *   - qmin <= result <= qmax always; sums are proven by the compiler to fit int32, packed biases included.
 *
 * `multiplier` and `shift` are in the program's rounding profile and packed as README.md says.
 */
#ifndef QC_KERNELS_H
#define QC_KERNELS_H

#include <stdint.h>

#include "qc_isa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rescaling of int32 sums with one multiplier per output channel. */
typedef struct {
    const int32_t *bias;       /* [channels], input zero point folded in: bias - input_zero_point * sum(weights) */
    const int32_t *multiplier; /* [channels], in (0, 2^31); NULL in profile shift_half_even */
    const int8_t *shift;       /* [channels], as packed */
    int16_t zero_point;        /* of y */
    int16_t qmin;
    int16_t qmax;
    int16_t flags; /* QC_PLAIN_SHIFTS, QC_FULL_RANGE, QC_NARROW_WEIGHTS */
} qc_rescale_params;

#define QC_PLAIN_SHIFTS 1   /* every packed shift >= 0: a factor below 1/4 (dyadic only) */
#define QC_NARROW_WEIGHTS 4 /* no weight is -128: two products fit 16 bits (depthwise) */
#define QC_FULL_RANGE 2     /* qmin, qmax are those of int8: saturation is the only limit */

/* A window that slides over an image. Padding at the end is what the output size implies. */
typedef struct {
    int16_t in_height, in_width, in_channels;
    int16_t out_height, out_width, out_channels;
    int16_t kernel_height, kernel_width;
    int16_t stride_height, stride_width;
    int16_t pad_top, pad_left;
    int16_t dilation_height, dilation_width;
} qc_window_params;

/* y = clip(round(sum m_i (x_i - z_i) * 2^-shift) + zero_point, qmin, qmax); one rounding. */
typedef struct {
    int64_t offset;        /* packed: rounding constant - sum m_i z_i */
    int32_t multiplier[2]; /* signed, |m| < 2^31, not 0 */
    int16_t shift;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
} qc_add_params;

/* ---- convolution --------------------------------------------------------------------------------------------- */
typedef struct {
    qc_window_params window;
    qc_rescale_params rescale;
    const void *weights;      /* packed, 8-byte aligned */
    int16_t groups;           /* divides in_channels and out_channels */
    int16_t input_zero_point; /* what padding is filled with */
    int16_t columns;          /* schedule: pixels gathered at a time, >= 1 */
    int16_t weight_bits;      /* 8 or 4 */
} qc_conv2d_s8_params;

/* y may share memory with x if y lies at least overlap.py's distance before it: pixels are written in order, and
 * a block of `columns` pixels only after everything it reads. */
void qc_conv2d_s8(const int8_t *x, int8_t *y, const qc_conv2d_s8_params *p, void *scratch);
int32_t qc_conv2d_s8_scratch_bytes(const qc_conv2d_s8_params *p);

/* The convolution followed by an add: y = add(conv(x), residual), the integers of the two functions one after the
 * other. add->multiplier[0] belongs to the convolution. y may be residual; x as in qc_conv2d_s8. */
void qc_conv2d_add_s8(const int8_t *x, const int8_t *residual, int8_t *y, const qc_conv2d_s8_params *p,
                      const qc_add_params *add, void *scratch);
int32_t qc_conv2d_add_s8_scratch_bytes(const qc_conv2d_s8_params *p);

/* ---- depthwise convolution: one filter per channel, in_channels == out_channels ------------------------------- */
typedef struct {
    qc_window_params window;
    qc_rescale_params rescale;
    const void *weights; /* packed, 8-byte aligned */
    int16_t input_zero_point;
    int16_t channel_block; /* schedule: channels gathered at a time, >= 1; 4 suits DSP, 16 MVE */
    int16_t row_block;     /* schedule: output rows gathered at a time; 0 for all */
} qc_depthwise_conv2d_s8_params;

/* In place (y == x) if out_height <= in_height and out_width <= in_width. */
void qc_depthwise_conv2d_s8(const int8_t *x, int8_t *y, const qc_depthwise_conv2d_s8_params *p, void *scratch);
int32_t qc_depthwise_conv2d_s8_scratch_bytes(const qc_depthwise_conv2d_s8_params *p);

/* ---- fully connected: x [rows, in_features], y [rows, out_features] ------------------------------------------- */
typedef struct {
    int32_t rows;
    int32_t in_features;
    int32_t out_features;
    qc_rescale_params rescale;
    const void *weights; /* packed, 8-byte aligned */
    int16_t columns;     /* schedule: rows gathered at a time, >= 1 */
    int16_t weight_bits; /* 8 or 4 */
    int16_t y_bits;      /* 16, or 8 (as is 0); 16 with weights of 8 bits only */
} qc_fully_connected_s8_params;

/* Sharing memory: as qc_conv2d_s8. */
void qc_fully_connected_s8(const int8_t *x, void *y, const qc_fully_connected_s8_params *p, void *scratch);
int32_t qc_fully_connected_s8_scratch_bytes(const qc_fully_connected_s8_params *p);

/* ---- pools ---------------------------------------------------------------------------------------------------- */
typedef struct {
    qc_window_params window; /* out_channels == in_channels */
} qc_max_pool_params;

/* Padding never wins. In place as the depthwise convolution if stride >= kernel and no padding. */
void qc_max_pool_s8(const int8_t *x, int8_t *y, const qc_max_pool_params *p);
void qc_max_pool_s16(const int16_t *x, int16_t *y, const qc_max_pool_params *p);

/* Sum of the window's (x - input_zero_point), rescaled: `bias[0]` is 0, one multiplier for all channels. Padding
 * counts as 0. A global average is one window as large as the image. */
typedef struct {
    qc_window_params window; /* out_channels == in_channels; dilation 1 */
    int32_t multiplier;
    int16_t shift; /* as packed */
    int16_t input_zero_point;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
} qc_avg_pool_s8_params;

void qc_avg_pool_s8(const int8_t *x, int8_t *y, const qc_avg_pool_s8_params *p);

/* ---- elementwise ---------------------------------------------------------------------------------------------- */
/* y[i] = add(a[i], b[i % period]), i < count; period == count without broadcasting. y may be a, or b if period == count. */
void qc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, int32_t period, const qc_add_params *p);

typedef struct {
    int32_t multiplier;
    int16_t shift; /* as packed */
    int16_t a_zero_point;
    int16_t b_zero_point;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
} qc_mul_params;

/* y[i] = rescale((a[i] - za) * (b[i % period] - zb)). y may be a, or b if period == count. */
void qc_mul_s8(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, int32_t period, const qc_mul_params *p);

/* y[i] = rescale(x[i] - a_zero_point); b_zero_point is not used. y may be x. */
void qc_requantize_s8(const int8_t *x, int8_t *y, int32_t count, const qc_mul_params *p);

/* y[i, c] = rescale(x[i, c] + bias[c]) for accumulators x [rows, channels]. */
void qc_requantize_s32_s8(const int32_t *x, int8_t *y, int32_t rows, int32_t channels, const qc_rescale_params *p);

/* y[i, c] = rescale(x[i, c] weights[c] + bias[c]) for codes x [rows, channels], zero point folded into the bias. y may
 * be x. */
void qc_scale_channels_s8(const int8_t *x, int8_t *y, int32_t rows, int32_t channels, const int8_t *weights,
                          const qc_rescale_params *p);

/* ---- movement ------------------------------------------------------------------------------------------------- */
/* y: x surrounded by `value`. Shapes [height, width, channels]. */
typedef struct {
    int16_t in_height, in_width, channels;
    int16_t pad_top, pad_left, pad_bottom, pad_right;
    int16_t value;
} qc_pad_s8_params;

void qc_pad_s8(const int8_t *x, int8_t *y, const qc_pad_s8_params *p);

/* `rows` runs of `bytes` bytes: from x at every x_stride to y at every y_stride. Concat, split and slice are calls of it. */
void qc_copy(const void *x, void *y, int32_t rows, int32_t bytes, int32_t x_stride, int32_t y_stride);

/* y[i_perm[0], ...] = x[i_0, ...] for up to 4 axes of elements of `bytes` bytes (1, 2 or 4). Unused leading axes have size 1. */
typedef struct {
    int32_t shape[4]; /* of x */
    int8_t axes[4];   /* y's axis i is x's axis axes[i] */
    int32_t bytes;
} qc_transpose_params;

void qc_transpose(const void *x, void *y, const qc_transpose_params *p);

/* y[i] = table[x[i] + 128]: any function of one code. y may be x. */
void qc_lookup_s8(const int8_t *x, int8_t *y, int32_t count, const int8_t *table);

/* ---- product of two activations ------------------------------------------------------------------------------- */
/* y[m, n] = rescale(sum_k (a[m, k] - za) (b[k, n] - zb)). Rows of a and y lie `stride` elements apart, b's elements
 * `step` from one k to the next and `apart` from one n to the next: heads that lie side by side, and transposes, need
 * no copy. */
typedef struct {
    int32_t rows;       /* m */
    int32_t inner;      /* k */
    int32_t columns;    /* n */
    int32_t multiplier; /* one for all */
    int16_t shift;      /* as packed */
    int16_t a_zero_point;
    int16_t b_zero_point;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
    int16_t y_bits; /* 16, or 8 (as is 0) */
    int32_t a_stride;
    int32_t b_step;
    int32_t b_apart;
    int32_t y_stride;
} qc_matmul_s8_params;

void qc_matmul_s8(const int8_t *a, const int8_t *b, void *y, const qc_matmul_s8_params *p, void *scratch);
int32_t qc_matmul_s8_scratch_bytes(const qc_matmul_s8_params *p);

/* ---- softmax over rows of `length` codes, at most 2^15 -------------------------------------------------------- */
/* mask: one byte per element, 0 for those that take no part; row r has mask + (r % mask_rows) * length. NULL: all do.
 * y may be x. */
typedef struct {
    int32_t rows;
    int32_t length;
    int32_t mask_rows;
    const int16_t *table; /* [table_length], >= 0: exponentials of -d; 0 beyond its end */
    int32_t table_length;
    int32_t zero_point; /* of y: -128 for int8 codes, 0 for uint8 */
} qc_softmax_lookup_params;

/* y = min((512 e + sum e) div (2 sum e), 255) + zero_point with e = table[max - x]: probabilities in steps of 1/256. */
void qc_softmax_lookup_s8(const int8_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p);
void qc_softmax_lookup_s16(const int16_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p);

/* The same exponentials; y, in steps of 2^-14, is the power of two nearest to the probability in the logarithm. The
 * table's sum of a row is below 2^31. x of 8 or 16 bits, and y may be x where that has 16. */
typedef struct {
    int32_t rows;
    int32_t length;
    int32_t mask_rows;
    const int16_t *table;
    int32_t table_length;
    int32_t x_bits;
} qc_log2_softmax_params;

void qc_log2_softmax(const void *x, int16_t *y, const uint8_t *mask, const qc_log2_softmax_params *p);

/* Exponentials by shifts instead of a table (I-ViT's Shiftmax); x of 8 or 16 bits. */
typedef struct {
    int32_t rows;
    int32_t length;
    int32_t mask_rows;
    int32_t unit; /* floor(1 / scale of x) */
    int32_t bits; /* in [1, 30], unit * 2^bits < 2^46 */
    int32_t reciprocal; /* 1: I-ViT's own division, in steps of 1/128 */
    int32_t x_bits;
    int32_t zero_point;
    int32_t qmin; /* the ends of y's type */
    int32_t qmax;
} qc_shiftmax_params;

void qc_shiftmax(const void *x, int8_t *y, const uint8_t *mask, const qc_shiftmax_params *p);

/* ---- functions of codes of 8 or 16 bits ----------------------------------------------------------------------- */
/* Widths in bits, 8 or 16, of operands and result. */
typedef struct {
    int8_t a;
    int8_t b;
    int8_t y;
} qc_widths;

/* As qc_add_s8, qc_mul_s8 and qc_requantize_s8 for any widths. y may be an operand of the same width. */
void qc_add_s16(const void *a, const void *b, void *y, int32_t count, int32_t period, const qc_add_params *p,
                qc_widths widths);
void qc_mul_s16(const void *a, const void *b, void *y, int32_t count, int32_t period, const qc_mul_params *p,
                qc_widths widths);
void qc_requantize_s16(const void *x, void *y, int32_t count, const qc_mul_params *p, qc_widths widths);

/* y[i] = table[x[i] + 128] with 16-bit results. */
void qc_lookup_s8_s16(const int8_t *x, int16_t *y, int32_t count, const int16_t *table);

/* Between 257 equidistant knots, linearly: shift in [8, 16]. */
typedef struct {
    const int16_t *table; /* [257] */
    int16_t shift;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
    int16_t y_bits;
} qc_lookup_interpolated_params;

void qc_lookup_interpolated_s16(const int16_t *x, void *y, int32_t count, const qc_lookup_interpolated_params *p);

/* v = x - input_zero_point; g = sigmoid(v / unit) in steps of 2^-gate_bits, by shifts; y = rescale of g (sigmoid),
 * 2 g - 2^gate_bits (tanh of v / (2 unit)) or v g (gated). y may be x if their widths are equal. */
typedef struct {
    int32_t unit;       /* >= 1 */
    int32_t multiplier; /* of the rescale; shift as packed */
    int16_t shift;
    int16_t bits; /* of the exponentials, in [1, 30]; unit * 2^(bits + 1 + gate_bits) < 2^61 */
    int16_t gate_bits;
    int16_t form; /* QC_SIGMOID, QC_TANH, QC_GATED */
    int16_t input_zero_point;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
    int16_t x_bits;
    int16_t y_bits;
} qc_shift_sigmoid_params;

#define QC_SIGMOID 0
#define QC_TANH 1
#define QC_GATED 2

void qc_shift_sigmoid(const void *x, void *y, int32_t count, const qc_shift_sigmoid_params *p);

/* Means: x [outer, count, inner], y [outer, inner] = rescale(sum over count of (x - a_zero_point)); 1 / count is in the
 * multiplier. widths.b is not used. */
void qc_mean_s16(const void *x, void *y, int32_t outer, int32_t count, int32_t inner, const qc_mul_params *p,
                 qc_widths widths);

/* ---- rows by their numbers, truth values ---------------------------------------------------------------------- */
/* y[i] = table[index[i]]: `count` of `rows` rows of `bytes` bytes. Negative indices count from the end; others outside
 * the table give its first or last row. */
void qc_gather_rows(const void *table, const int32_t *index, void *y, int32_t count, int32_t rows, int32_t bytes);

/* y[i] = (x[i] != 0) */
void qc_not_zero(const int32_t *x, uint8_t *y, int32_t count);

/* y[i] = a[i] & b[i % period] of truth values. y may be a, or b if period == count. */
void qc_logical_and(const uint8_t *a, const uint8_t *b, uint8_t *y, int32_t count, int32_t period);

/* y[i] = condition[i] ? a[i] : b[i] for codes of 8 or 16 bits; each operand repeats after its period, which is `count` for
 * one that does not. y may be an operand of period `count`. */
typedef struct {
    int32_t count;
    int32_t condition_period;
    int32_t a_period;
    int32_t b_period;
    int32_t bits;
} qc_where_params;

void qc_where(const uint8_t *condition, const void *a, const void *b, void *y, const qc_where_params *p);

/* ---- normalization of rows ------------------------------------------------------------------------------------ */
/* a = (x - input_zero_point) << fraction, less its rounded mean if `centre`; t = a / sqrt(sum a a + eps) in 30 bits;
 * y = clip(((t weight + bias + 2^(shift-1)) >> shift) + zero_point, qmin, qmax). Square root and divisions are exact. */
typedef struct {
    int32_t rows;
    int32_t length;
    const int32_t *weight; /* [length] */
    const int64_t *bias;   /* [length] or NULL */
    int64_t eps;           /* >= 1 */
    int16_t fraction;
    int16_t shift; /* in [1, 62] */
    int16_t input_zero_point;
    int16_t zero_point;
    int16_t qmin;
    int16_t qmax;
    int16_t centre; /* 1 layer norm, 0 RMS norm */
    int16_t x_bits;
    int16_t y_bits;
} qc_normalize_params;

void qc_normalize_s16(const void *x, void *y, const qc_normalize_params *p);

#ifdef __cplusplus
}
#endif

#endif
