/* Sums of products of gathered columns with packed int8 weights, rescaled: the inner loop of convolution and fully
 * connected layers. See qc_internal.h for the layouts of columns and README.md for those of weights. */
#include "qc_internal.h"

#if defined(QC_PORTABLE) || defined(QC_MVE)
/* Two columns by two channels: each code that is loaded is used twice. The second of a lone one repeats the first. */
void qc_product_s8(const void *columns, int32_t count, int32_t k, const void *weights, const qc_rescale_params *rescale,
                   int32_t first, int32_t channels, int8_t *y, int32_t stride)
{
    for (int32_t i = 0; i < count; i += 2) {
        const int32_t next = ((i + 1) < count) ? 1 : 0;
        const int8_t *x0 = (const int8_t *)columns + (i * k);
        const int8_t *x1 = x0 + (next * k);
        for (int32_t c = 0; c < channels; c += 2) {
            const int32_t other = ((c + 1) < channels) ? 1 : 0;
            const int8_t *w0 = (const int8_t *)weights + (c * k);
            const int8_t *w1 = w0 + (other * k);
            int32_t acc00 = rescale->bias[first + c];
            int32_t acc10 = rescale->bias[first + c + other];
            int32_t acc01 = acc00;
            int32_t acc11 = acc10;
            for (int32_t j = 0; j < k; j++) {
                acc00 += w0[j] * x0[j];
                acc01 += w0[j] * x1[j];
                acc10 += w1[j] * x0[j];
                acc11 += w1[j] * x1[j];
            }
            int8_t *out = y + (i * stride) + c;
            out[0] = qc_finish(acc00, rescale, first + c);
            out[other] = qc_finish(acc10, rescale, first + c + other);
            out += next * stride;
            out[0] = qc_finish(acc01, rescale, first + c);
            out[other] = qc_finish(acc11, rescale, first + c + other);
        }
    }
}
#endif

#if defined(QC_DSP)
/* One column of four k, two channels: 10 instructions for 8 products. */
static inline void qc_sum_one(const qc_word *x, const qc_word *w, int32_t quads, int32_t acc[2])
{
    int32_t a = acc[0];
    int32_t b = acc[1];
    for (; quads != 0; quads--) {
        for (int32_t j = 0; j < 2; j++) {
            const uint32_t even = qc_sxtb16(w[j]);
            const uint32_t odd = qc_sxtb16_ror8(w[j]);
            __asm__("smlad %0, %1, %2, %0" : "+r"(a) : "r"(even), "r"(x[j]));
            __asm__("smlad %0, %1, %2, %0" : "+r"(b) : "r"(odd), "r"(x[j]));
        }
        x += 2;
        w += 2;
    }
    acc[0] = a;
    acc[1] = b;
}
#endif
