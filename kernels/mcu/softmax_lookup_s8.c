/* Softmax of 8-bit codes with exponentials from a table.
 *
 *   d = max - x over the elements the mask keeps; e = table[d], 0 beyond the table and where masked
 *   y = min((512 e + sum e) div (2 sum e), 255) + zero_point; a row without any kept element gives probability 0
 *
 * Table entries are below 2^15 and rows at most 2^15 long, so everything fits 32 bits. */
#include "qc_internal.h"

static void qc_masked_row(const int8_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p)
{
    int32_t top = INT32_MIN;
    uint32_t sum = 0;
    for (int32_t i = 0; i < p->length; i++) {
        top = ((mask[i] != 0u) && (x[i] > top)) ? x[i] : top;
    }
    for (int32_t i = 0; i < p->length; i++) {
        sum += (mask[i] != 0u) ? qc_exponential(top - x[i], p) : 0u;
    }
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = (mask[i] != 0u) ? qc_probability(qc_exponential(top - x[i], p), sum, p->zero_point)
                               : (int8_t)p->zero_point;
    }
}

/* Largest of n >= 1 codes. */
static int32_t qc_largest(const int8_t *x, int32_t n)
{
    int32_t top = x[0];
    int32_t i = 0;
#if defined(QC_DSP)
    if (n >= 4) { /* four at a time: SSUB8 compares, SEL picks */
        uint32_t best = *(const qc_unaligned_word *)(const void *)x;
        for (i = 4; (i + 4) <= n; i += 4) {
            const uint32_t next = *(const qc_unaligned_word *)(const void *)(x + i);
            uint32_t difference;
            __asm__("ssub8 %[d], %[n], %[b]\n\tsel %[b], %[n], %[b]"
                    : [b] "+r"(best), [d] "=&r"(difference)
                    : [n] "r"(next));
        }
        for (int32_t j = 0; j < 32; j += 8) {
            const int32_t code = (int32_t)(int8_t)(uint8_t)(best >> j);
            top = (code > top) ? code : top;
        }
    }
#elif defined(QC_MVE)
    for (; (i + 16) <= n; i += 16) {
        top = vmaxvq_s8((int8_t)top, vldrbq_s8(x + i));
    }
#endif
    for (; i < n; i++) {
        top = (x[i] > top) ? x[i] : top;
    }
    return top;
}

static void qc_row(const int8_t *x, int8_t *y, const qc_softmax_lookup_params *p)
{
    const int32_t n = p->length;
    const int32_t top = qc_largest(x, n);
    const int32_t zero_point = p->zero_point;
    uint32_t sum = 0;
    if (p->table_length >= 256) { /* no distance of 8-bit codes lies beyond */
        const int16_t *table = p->table;
        for (int32_t i = 0; i < n; i++) {
            const uint32_t e = (uint32_t)table[top - x[i]];
            sum += e;
        }
        const uint32_t twice = 2u * sum;
        for (int32_t i = 0; i < n; i++) {
            const uint32_t v = ((512u * (uint32_t)table[top - x[i]]) + sum) / twice;
            y[i] = (int8_t)((int32_t)((v > 255u) ? 255u : v) + zero_point);
        }
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        sum += qc_exponential(top - x[i], p);
    }
    for (int32_t i = 0; i < n; i++) {
        y[i] = qc_probability(qc_exponential(top - x[i], p), sum, zero_point);
    }
}

void qc_softmax_lookup_s8(const int8_t *x, int8_t *y, const uint8_t *mask, const qc_softmax_lookup_params *p)
{
    for (int32_t row = 0; row < p->rows; row++) {
        if (mask == 0) {
            qc_row(x, y, p);
        } else {
            qc_masked_row(x, y, mask + ((row % p->mask_rows) * p->length), p);
        }
        x += p->length;
        y += p->length;
    }
}
