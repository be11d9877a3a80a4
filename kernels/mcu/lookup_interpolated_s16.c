/* A function of 16-bit codes between 257 knots:
 *
 *   u = x + 32768; i = u >> 8; f = u & 255; t = 256 table[i] + (table[i + 1] - table[i]) f          |t| < 2^25
 *   y = clip(((t + 2^(shift-1)) >> shift) + zero_point, qmin, qmax) */
#include "qc_internal.h"

void qc_lookup_interpolated_s16(const int16_t *x, void *y, int32_t count, const qc_lookup_interpolated_params *p)
{
    const int32_t half = (int32_t)1 << (p->shift - 1);
    for (int32_t i = 0; i < count; i++) {
        const int32_t u = x[i] + 32768;
        const int16_t *knot = p->table + (u >> 8);
        const int32_t t = (256 * knot[0]) + ((knot[1] - knot[0]) * (u & 255));
        qc_store_code(y, i, p->y_bits, qc_clip(((t + half) >> p->shift) + p->zero_point, p->qmin, p->qmax));
    }
}
