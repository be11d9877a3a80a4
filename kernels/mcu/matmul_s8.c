/* Product of two activations: y[m, n] = rescale(sum_k (a[m, k] - za) (b[k, n] - zb)).
 *
 * Differences of codes fit 9 bits, so sums fit int32 for k < 2^15. The DSP and MVE bodies pack b as the weights of a fully
 * connected layer and let its inner loop do the work:
 *
 *   sum (a - za)(b - zb) = sum a b + [k za zb - za sum_k b[k, n]] - zb sum_k a[m, k]        bias per column and row */
#include "qc_internal.h"

#if defined(QC_PORTABLE)
int32_t qc_matmul_s8_scratch_bytes(const qc_matmul_s8_params *p)
{
    (void)p;
    return 0;
}

void qc_matmul_s8(const int8_t *a, const int8_t *b, void *y, const qc_matmul_s8_params *p, void *scratch)
{
    const int32_t y_bits = (p->y_bits == 16) ? 16 : 8;
    int32_t at = 0;
    (void)scratch;
    for (int32_t m = 0; m < p->rows; m++) {
        for (int32_t n = 0; n < p->columns; n++) {
            const int8_t *column = b + (n * p->b_apart);
            int32_t acc = 0;
            for (int32_t k = 0; k < p->inner; k++) {
                acc += (a[k] - p->a_zero_point) * (*column - p->b_zero_point);
                column += p->b_step;
            }
            qc_store_code(y, at + n, y_bits,
                          qc_requantize(acc, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax));
        }
        a += p->a_stride;
        at += p->y_stride;
    }
}
#else
/* Scratch: bias and multiplier of each column, the packed b, three gathered rows of a, shifts. */
static int32_t qc_packed_bytes(const qc_matmul_s8_params *p)
{
    return (qc_packed_weight_bytes(p->columns, p->inner, 8) + 3) & ~3;
}

/* Rows of a that are gathered at a time: several only while they share one bias. */
static int32_t qc_block(const qc_matmul_s8_params *p)
{
    return ((p->b_zero_point == 0) && (p->y_bits != 16) && (p->rows >= 3)) ? 3 : 1;
}

static int32_t qc_gathered_bytes(const qc_matmul_s8_params *p)
{
    return ((3 * qc_column_bytes(p->inner)) + 3) & ~3;
}

int32_t qc_matmul_s8_scratch_bytes(const qc_matmul_s8_params *p)
{
    return (9 * p->columns) + qc_packed_bytes(p) + qc_gathered_bytes(p);
}

/* Packs b, and returns in `sums` what does not depend on the row: k za zb - za sum_k b[k, n]. */
static void qc_pack(const int8_t *b, const qc_matmul_s8_params *p, int8_t *packed, int32_t *sums)
{
    (void)memset(packed, 0, (size_t)qc_packed_bytes(p));
    for (int32_t n = 0; n < p->columns; n++) {
        const int8_t *from = b + (n * p->b_apart);
        int32_t sum = 0;
        for (int32_t k = 0; k < p->inner; k++) {
#if defined(QC_DSP)
            const int32_t quad = ((n / 2) * ((p->inner + 3) / 4)) + (k / 4);
            const int32_t place = ((k & 1) * 2) + ((k & 2) >> 1); /* of k in its four: 0, 2, 1, 3 */
            packed[(8 * quad) + (2 * place) + (n & 1)] = *from;
#else
            const int32_t four = n & ~3;
            const int32_t sixteen = k & ~15;
            const int32_t filters = ((p->columns - four) < 4) ? (p->columns - four) : 4;
            const int32_t run = ((p->inner - sixteen) < 16) ? (p->inner - sixteen) : 16;
            packed[(four * p->inner) + (sixteen * filters) + ((n - four) * run) + (k - sixteen)] = *from;
#endif
            sum += *from;
            from += p->b_step;
        }
        sums[n] = p->a_zero_point * ((p->inner * p->b_zero_point) - sum);
    }
}

void qc_matmul_s8(const int8_t *a, const int8_t *b, void *y, const qc_matmul_s8_params *p, void *scratch)
{
    const int32_t columns = p->columns;
    int32_t *bias = (int32_t *)scratch;
    int32_t *multiplier = bias + columns;
    int8_t *packed = (int8_t *)(multiplier + columns);
    int8_t *gathered = packed + qc_packed_bytes(p);
    int8_t *shift = gathered + qc_gathered_bytes(p);
    const int full = (p->qmin == INT8_MIN) && (p->qmax == INT8_MAX);
    const int32_t flags = ((p->shift >= 0) ? QC_PLAIN_SHIFTS : 0) | (full ? QC_FULL_RANGE : 0);
    const qc_rescale_params rescale = {bias, multiplier, shift, p->zero_point, p->qmin, p->qmax, (int16_t)flags};
    int32_t before = 0; /* zb * sum of the last row: in the bias */
    qc_pack(b, p, packed, bias);
    for (int32_t n = 0; n < columns; n++) {
        multiplier[n] = p->multiplier;
        shift[n] = (int8_t)p->shift;
    }
    const int32_t bytes = qc_column_bytes(p->inner);
    int32_t count = qc_block(p);
    for (int32_t m = 0; m < p->rows; m += count) {
        if ((p->rows - m) < count) {
            count = 1;
        }
        if (p->b_zero_point != 0) {
            int32_t sum = 0;
            for (int32_t k = 0; k < p->inner; k++) {
                sum += a[k];
            }
            sum *= p->b_zero_point;
            for (int32_t n = 0; n < columns; n++) {
                bias[n] += before - sum;
            }
            before = sum;
        }
        for (int32_t i = 0; i < count; i++) {
            int32_t pitch;
            void *out = qc_column_at(gathered, i, count, bytes, &pitch);
            qc_expand_s8(a, p->inner, out, pitch);
            a += p->a_stride;
        }
        if (p->y_bits == 16) {
            qc_product_s8_s16(gathered, p->inner, packed, &rescale, columns, (int16_t *)y + (m * p->y_stride));
        } else {
            qc_product_s8(gathered, count, p->inner, packed, &rescale, 0, columns, (int8_t *)y + (m * p->y_stride),
                          p->y_stride);
        }
    }
}
#endif
