/* Functions that kernels share. Not for callers. */
#ifndef QC_INTERNAL_H
#define QC_INTERNAL_H

#include <string.h>

#include "qc_fixed_point.h"
#include "qc_kernels.h"

#if defined(QC_MVE)
#include <arm_mve.h>
#endif

/* Columns: the inputs of one output pixel, K codes.
 *   plain layout: K bytes each, one after the other;
 *   pairs layout: int16, K padded to a multiple of 4 with zeros, each four k as (k0, k2), (k1, k3): the order SXTB16
 *   gives. Three columns at a time lie interleaved word by word, those left over one after the other. */
int32_t qc_column_bytes(int32_t k);

/* Where column `index` of `count` lies, and (pairs layout) the words from one of its pairs to the next. */
static inline void *qc_column_at(void *columns, int32_t index, int32_t count, int32_t bytes, int32_t *pitch)
{
#if defined(QC_DSP)
    int32_t first = 0; /* of the three columns that interleave */
    while (((first + 3) <= index)) {
        first += 3;
    }
    if ((first + 3) <= count) {
        *pitch = 3;
        return (int8_t *)columns + (first * bytes) + (4 * (index - first));
    }
    *pitch = 1;
#else
    (void)count;
    *pitch = 0;
#endif
    return (int8_t *)columns + (index * bytes);
}

/* Writes one column: the inputs of an output pixel whose window begins at (top, left). x begins at the group's first
 * channel; `run` is the number of channels of a group. `spare` has qc_column_bytes(K) bytes. */
void qc_gather_s8(const int8_t *x, const qc_conv2d_s8_params *p, int32_t run, int32_t top, int32_t left, void *out,
                  int32_t pitch, void *spare);

/* Writes one column from k consecutive codes. */
void qc_expand_s8(const int8_t *x, int32_t k, void *out, int32_t pitch);

/* Output channels [0, channels) of `count` columns: y[i * stride + c]. `first` is the channel's index in `rescale`.
 * Weights of int8 and int4 codes. */
void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride);
void qc_product_s4(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride);

/* One column and all channels, 16-bit results, weights of 8 bits. */
void qc_product_s8_s16(const void *column, int32_t k, const void *weights, const qc_rescale_params *rescale,
                       int32_t channels, int16_t *y);

/* Bytes of the packed weights of `channels` outputs. */
int32_t qc_packed_weight_bytes(int32_t channels, int32_t k, int32_t weight_bits);

/* Depthwise convolution: padded rows of a strip of the image and a block of channels, at the start of scratch.
 *   plain layout: [row][column][channel] int8;
 *   pairs layout: [channel][row][column] int16, columns even.
 * Behind them what a body prepares once per block of channels. */
typedef struct {
    int32_t rows;
    int32_t width; /* columns */
    int32_t channels;
} qc_strip;

#if defined(QC_DSP)
#define QC_PREPARED_BYTES 24 /* 3 x 3 weights as six words */
#elif defined(QC_MVE)
#define QC_PREPARED_BYTES 384 /* parameters of 16 channels in the order of the lanes */
#else
#define QC_PREPARED_BYTES 0
#endif

/* Gathers row `row` of the image (outside it: padding) as row `at` of the strip: `n` channels from `first`. */
void qc_depthwise_load_s8(const int8_t *x, const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch,
                          int32_t at, int32_t row, int32_t first, int32_t n);

/* Moves the last `rows` of `filled` rows to the front. */
void qc_depthwise_keep_s8(const qc_strip *strip, void *scratch, int32_t filled, int32_t rows, int32_t n);

/* `rows` rows of outputs of a block of channels. y is the place of channel `first` in the first row. */
void qc_depthwise_rows_s8(const qc_depthwise_conv2d_s8_params *p, const qc_strip *strip, void *scratch, int32_t first,
                          int32_t n, int32_t rows, int8_t *y);

static inline int32_t qc_multiplier_of(const qc_rescale_params *p, int32_t channel)
{
#if QC_PROFILE == QC_PROFILE_DYADIC
    return p->multiplier[channel];
#else
    (void)p;
    (void)channel;
    return 1;
#endif
}

static inline int8_t qc_finish(int32_t acc, const qc_rescale_params *p, int32_t channel)
{
    return (int8_t)qc_requantize(acc, qc_multiplier_of(p, channel), p->shift[channel], p->zero_point, p->qmin, p->qmax);
}

/* Code i of an array of `bits` bits. */
static inline int32_t qc_load_code(const void *x, int32_t i, int32_t bits)
{
    return (bits == 8) ? ((const int8_t *)x)[i] : ((const int16_t *)x)[i];
}

static inline void qc_store_code(void *y, int32_t i, int32_t bits, int32_t code)
{
    if (bits == 8) {
        ((int8_t *)y)[i] = (int8_t)code;
    } else {
        ((int16_t *)y)[i] = (int16_t)code;
    }
}

/* round(sum * 2^-shift) of two products whose rounding constant and zero points are in the sum. */
static inline int32_t qc_scale_sum(int64_t sum, const qc_add_params *p)
{
#if QC_PROFILE == QC_PROFILE_DYADIC
    const int32_t v = qc_limit_int32(sum >> p->shift);
#else
    /* a left shift saturates long before 64 bits are full */
    const int64_t bound = (int64_t)1 << 31;
    const int64_t limited = (sum > bound) ? bound : ((sum < -bound) ? -bound : sum);
    const int32_t v = qc_limit_int32(qc_shift_half_even((p->shift < 0) ? limited : sum, p->shift));
#endif
    return qc_clip(v, p->qmin - p->zero_point, p->qmax - p->zero_point) + p->zero_point;
}

/* Whether the high word of the product is enough for every channel. */
static inline int qc_is_quick(const qc_rescale_params *p)
{
#if QC_PROFILE == QC_PROFILE_DYADIC
    return (p->flags & QC_PLAIN_SHIFTS) != 0;
#else
    (void)p;
    return 0;
#endif
}

/* Limits other than those of int8, which quick bodies saturate to: `rows` runs of `n` codes, `stride` apart. */
void qc_limit(int8_t *y, int32_t rows, int32_t n, int32_t stride, const qc_rescale_params *p);

/* n bytes that do not overlap. The library's memcpy may go byte by byte. */
static inline void qc_copy_bytes(int8_t *to, const int8_t *from, int32_t n)
{
#if defined(QC_MVE)
    __asm__ volatile("wlstp.8 lr, %[n], 2f\n\t"
                     "1:\n\t"
                     "vldrb.8 q0, [%[from]], #16\n\t"
                     "vstrb.8 q0, [%[to]], #16\n\t"
                     "letp lr, 1b\n\t"
                     "2:"
                     : [to] "+r"(to), [from] "+r"(from)
                     : [n] "r"(n)
                     : "q0", "lr", "memory");
#else
    (void)memcpy(to, from, (size_t)n);
#endif
}

static inline void qc_fill_bytes(int8_t *to, int32_t value, int32_t n)
{
#if defined(QC_MVE)
    const int8x16_t v = vdupq_n_s8((int8_t)value);
    for (; n > 0; n -= 16) {
        vstrbq_p_s8(to, v, vctp8q((uint32_t)n));
        to += 16;
    }
#else
    (void)memset(to, value, (size_t)n);
#endif
}

/* Single instructions that C cannot name. */
/* Softmax from a table: the exponential of a distance from the largest code, and a probability's code. */
static inline uint32_t qc_exponential(int32_t d, const qc_softmax_lookup_params *p)
{
    return (d < p->table_length) ? (uint32_t)p->table[d] : 0u;
}

static inline int8_t qc_probability(uint32_t e, uint32_t sum, int32_t zero_point)
{
    const uint32_t v = ((512u * e) + sum) / (2u * sum);
    return (int8_t)((int32_t)((v > 255u) ? 255u : v) + zero_point);
}

/* About unit 2^bits exp(t / unit) for t <= 0, by shifts; shiftmax.c says how. */
static inline int64_t qc_shift_exp(int32_t t, int32_t unit, int32_t bits)
{
    const int64_t floor = -((int64_t)bits * unit);
    int64_t v = (int64_t)t + (t >> 1) - (t >> 4);
    v = (v < floor) ? floor : v;
    const int64_t q = -v / unit;
    const int64_t r = -v - (q * unit);
    return (((2 * (int64_t)unit) - r) * ((int64_t)1 << (bits - (int32_t)q))) >> 1;
}

#if defined(QC_DSP)
typedef uint32_t __attribute__((may_alias)) qc_word;
typedef uint32_t __attribute__((may_alias, aligned(1))) qc_unaligned_word;

static inline uint32_t qc_sxtb16(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}

static inline uint32_t qc_sxtb16_ror8(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}

/* n codes, a multiple of four, as pairs `pitch` words apart; returns where the next go. */
qc_word *qc_extend(const int8_t *x, int32_t n, qc_word *out, int32_t pitch);

/* The low, or the high, halves of a and b as one word (low of the result first). */
static inline uint32_t qc_low_halves(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

static inline uint32_t qc_high_halves(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(r) : "r"(b), "r"(a));
    return r;
}

/* acc + x.low w.low + x.high w.high, and the products of single halves: first letter x, second w. */
static inline int32_t qc_smlad(uint32_t x, uint32_t w, int32_t acc)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(acc) : "r"(x), "r"(w));
    return acc;
}

static inline int32_t qc_smlabt(uint32_t x, uint32_t w, int32_t acc)
{
    __asm__("smlabt %0, %1, %2, %0" : "+r"(acc) : "r"(x), "r"(w));
    return acc;
}

static inline int32_t qc_smlatb(uint32_t x, uint32_t w, int32_t acc)
{
    __asm__("smlatb %0, %1, %2, %0" : "+r"(acc) : "r"(x), "r"(w));
    return acc;
}

/* v / 2 saturated to int8. */
static inline int32_t qc_half_saturated(int32_t v)
{
    int32_t r;
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(r) : "r"(v));
    return r;
}
#endif

#endif
