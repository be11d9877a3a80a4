/* Layer norm and RMS norm of codes, with an exact floor square root.
 *
 *   a = (x - input_zero_point) << fraction; layer norm: a -= floor((2 sum a + C) / (2 C))
 *   k = isqrt(sum a a + eps); t = (a (2^40 div k)) >> 10
 *   y = clip(((t weight + bias + 2^(shift-1)) >> shift) + zero_point, qmin, qmax)
 *
 * All in 64 bits: |a| < 2^(17 + fraction), and the compiler proves that sum a a + eps stays below 2^62. */
#include "qc_internal.h"

/* Largest k with k k <= v, 1 <= v < 2^62: Newton's iteration from above, stopped where it no longer falls. */
static int64_t qc_floor_sqrt(int64_t v)
{
    int32_t bits = 0;
    while ((v >> bits) != 0) {
        bits++;
    }
    int64_t k = (int64_t)1 << ((bits + 1) / 2);
    for (;;) {
        const int64_t next = (k + (v / k)) >> 1;
        if (next >= k) {
            return k;
        }
        k = next;
    }
}

static int64_t qc_element(const void *x, int32_t i, const qc_normalize_params *p)
{
    return ((int64_t)qc_load_code(x, i, p->x_bits) - p->input_zero_point) * ((int64_t)1 << p->fraction);
}

static int64_t qc_mean(const void *x, const qc_normalize_params *p)
{
    const int64_t twice = 2 * (int64_t)p->length;
    int64_t sum = 0;
    for (int32_t i = 0; i < p->length; i++) {
        sum += qc_load_code(x, i, p->x_bits) - p->input_zero_point;
    }
    sum *= (int64_t)1 << p->fraction;
    const int64_t numerator = (2 * sum) + p->length;
    const int64_t quotient = numerator / twice; /* towards 0 */
    return ((quotient * twice) > numerator) ? (quotient - 1) : quotient;
}

/* Where a and the reciprocal fit 32 bits: |t| <= 2^30, because |a| <= k. */
static void qc_narrow_row(const void *x, void *y, int32_t mean, int32_t reciprocal, const qc_normalize_params *p)
{
    const int64_t half = (int64_t)1 << (p->shift - 1);
    for (int32_t i = 0; i < p->length; i++) {
        const int32_t a = (qc_load_code(x, i, p->x_bits) - p->input_zero_point) * ((int32_t)1 << p->fraction);
        const int32_t t = (int32_t)(((int64_t)(a - mean) * reciprocal) >> 10);
        const int64_t total = ((int64_t)t * p->weight[i]) + half + ((p->bias == 0) ? 0 : p->bias[i]);
        const int32_t v = qc_limit_int32(total >> p->shift);
        qc_store_code(y, i, p->y_bits, qc_clip(v, p->qmin - p->zero_point, p->qmax - p->zero_point) + p->zero_point);
    }
}

static int64_t qc_squares(const void *x, int64_t mean, const qc_normalize_params *p)
{
    int64_t sum = p->eps;
    if (p->fraction <= 12) {
        for (int32_t i = 0; i < p->length; i++) {
            const int32_t a = (qc_load_code(x, i, p->x_bits) - p->input_zero_point) * ((int32_t)1 << p->fraction);
            sum += (int64_t)(a - (int32_t)mean) * (a - (int32_t)mean);
        }
    } else {
        for (int32_t i = 0; i < p->length; i++) {
            const int64_t a = qc_element(x, i, p) - mean;
            sum += a * a;
        }
    }
    return sum;
}

static void qc_row(const void *x, void *y, const qc_normalize_params *p)
{
    const int64_t mean = (p->centre != 0) ? qc_mean(x, p) : 0;
    const int64_t half = (int64_t)1 << (p->shift - 1);
    const int64_t reciprocal = ((int64_t)1 << 40) / qc_floor_sqrt(qc_squares(x, mean, p));
    if ((p->fraction <= 12) && (reciprocal <= INT32_MAX)) {
        qc_narrow_row(x, y, (int32_t)mean, (int32_t)reciprocal, p);
        return;
    }
    for (int32_t i = 0; i < p->length; i++) {
        const int64_t t = ((qc_element(x, i, p) - mean) * reciprocal) >> 10;
        const int64_t total = (t * p->weight[i]) + half + ((p->bias == 0) ? 0 : p->bias[i]);
        const int32_t v = qc_limit_int32(total >> p->shift);
        qc_store_code(y, i, p->y_bits, qc_clip(v, p->qmin - p->zero_point, p->qmax - p->zero_point) + p->zero_point);
    }
}

void qc_normalize_s16(const void *x, void *y, const qc_normalize_params *p)
{
    const int8_t *from = (const int8_t *)x;
    int8_t *to = (int8_t *)y;
    for (int32_t row = 0; row < p->rows; row++) {
        qc_row(from, to, p);
        from += p->length * (p->x_bits / 8);
        to += p->length * (p->y_bits / 8);
    }
}
