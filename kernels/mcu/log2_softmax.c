/* Softmax whose probabilities are powers of two: products with them are shifts.
 *
 *   e as in softmax_lookup_s16.c; p = (e 2^16 + sum e) div (2 sum e)
 *   k = floor(log2 p), one more where p p >= 2^(2k+1); y = 2^(k-1), 0 where p < 2 */
#include "qc_internal.h"

static uint32_t qc_entry(const void *x, int32_t i, const uint8_t *mask, int32_t top, const qc_log2_softmax_params *p)
{
    const int32_t distance = top - qc_load_code(x, i, p->x_bits);
    if (((mask != 0) && (mask[i] == 0u)) || (distance >= p->table_length)) {
        return 0;
    }
    return (uint32_t)p->table[distance];
}

static int16_t qc_power(uint32_t e, uint32_t sum)
{
    const uint32_t v = (sum == 0u) ? 0u : (uint32_t)((((uint64_t)e << 16) + sum) / (2u * (uint64_t)sum));
    int32_t k = 0;
    if (v < 2u) {
        return 0;
    }
    while ((v >> (k + 1)) != 0u) {
        k++;
    }
    if ((v * v) >= ((uint32_t)1 << ((2 * k) + 1))) {
        k++;
    }
    return (int16_t)((int32_t)1 << (k - 1));
}

static void qc_row(const void *x, int16_t *y, const uint8_t *mask, const qc_log2_softmax_params *p)
{
    int32_t top = INT32_MIN;
    uint32_t sum = 0;
    for (int32_t i = 0; i < p->length; i++) {
        const int32_t code = qc_load_code(x, i, p->x_bits);
        top = (((mask == 0) || (mask[i] != 0u)) && (code > top)) ? code : top;
    }
    if (top == INT32_MIN) {
        (void)memset(y, 0, 2u * (size_t)p->length); /* nothing takes part */
        return;
    }
    for (int32_t i = 0; i < p->length; i++) {
        sum += qc_entry(x, i, mask, top, p);
    }
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = qc_power(qc_entry(x, i, mask, top, p), sum);
    }
}

void qc_log2_softmax(const void *x, int16_t *y, const uint8_t *mask, const qc_log2_softmax_params *p)
{
    const int8_t *from = (const int8_t *)x;
    for (int32_t row = 0; row < p->rows; row++) {
        qc_row(from, y, (mask == 0) ? 0 : (mask + ((row % p->mask_rows) * p->length)), p);
        from += p->length * (p->x_bits / 8);
        y += p->length;
    }
}
