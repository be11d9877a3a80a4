/* Sum of two operands, each with its own multiplier, and one rounding:
 *
 *   y = clip(round((m_0 (a - z_0) + m_1 (b - z_1)) * 2^-shift) + zero_point, qmin, qmax)
 *
 * Ranges: |m| < 2^31, codes of 8 bits, so the exact sum is below 2^41; shift in [1, 62] (dyadic, ties up) or [-31, 62]
 * (half even). The rounding constant and the zero points of the operands are in `offset`. */
#include "qc_internal.h"

static inline int8_t qc_sum(int32_t a, int32_t b, const qc_add_params *p)
{
    return (int8_t)qc_scale_sum(p->offset + ((int64_t)p->multiplier[0] * a) + ((int64_t)p->multiplier[1] * b), p);
}

#if !defined(QC_PORTABLE) && (QC_PROFILE == QC_PROFILE_DYADIC)
/* The sum in 32 bits, exactly: with m = 2^16 h + l and offset + zero_point * 2^shift = 2^16 high + low,
 *   sum >> 16 = (h_0 a + h_1 b + high) + ((l_0 a + l_1 b + low) >> 16), and the rest of the shift follows. */
typedef struct {
    int32_t high;
    int32_t low;
    int32_t h[2];
    int32_t l[2];
    int32_t shift; /* the rest */
} qc_halves;

static int qc_split(const qc_add_params *p, qc_halves *to)
{
    const int64_t limit = (int64_t)1 << 46;
    if ((p->shift < 16) || (p->shift > 46) || (p->offset >= limit) || (p->offset <= -limit)) {
        return 0;
    }
    const int64_t base = p->offset + (p->zero_point * ((int64_t)1 << p->shift));
    for (int32_t i = 0; i < 2; i++) {
        const int32_t h = (int32_t)(((int64_t)p->multiplier[i] + 0x8000) >> 16);
        to->h[i] = h;
        to->l[i] = (int32_t)((int64_t)p->multiplier[i] - ((int64_t)h * 65536));
        if (h > 0x7FFF) {
            return 0;
        }
    }
    to->high = (int32_t)(base >> 16);
    to->low = (int32_t)(base & 0xFFFF);
    to->shift = p->shift - 16;
    return (base < limit) && (base > -limit);
}
#endif

#if defined(QC_DSP) && (QC_PROFILE == QC_PROFILE_DYADIC)
static inline int8_t qc_sum_pair(uint32_t ab, uint32_t h, uint32_t l, const qc_halves *k)
{
    int32_t v = (qc_smlad(ab, h, k->high) + (qc_smlad(ab, l, k->low) >> 16)) >> k->shift;
    __asm__("ssat %0, #8, %0" : "+r"(v));
    return (int8_t)v;
}

static int32_t qc_add_fast(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, const qc_add_params *p)
{
    qc_halves k;
    if (!qc_split(p, &k)) {
        return 0;
    }
    const uint32_t h = qc_low_halves((uint32_t)k.h[0], (uint32_t)k.h[1]);
    const uint32_t l = qc_low_halves((uint32_t)k.l[0], (uint32_t)k.l[1]);
    const int32_t done = count & ~3;
    for (int32_t i = 0; i < done; i += 4) {
        const uint32_t wa = *(const qc_unaligned_word *)(const void *)(a + i);
        const uint32_t wb = *(const qc_unaligned_word *)(const void *)(b + i);
        const uint32_t even_a = qc_sxtb16(wa);
        const uint32_t even_b = qc_sxtb16(wb);
        const uint32_t odd_a = qc_sxtb16_ror8(wa);
        const uint32_t odd_b = qc_sxtb16_ror8(wb);
        y[i] = qc_sum_pair(qc_low_halves(even_a, even_b), h, l, &k);
        y[i + 1] = qc_sum_pair(qc_low_halves(odd_a, odd_b), h, l, &k);
        y[i + 2] = qc_sum_pair(qc_high_halves(even_a, even_b), h, l, &k);
        y[i + 3] = qc_sum_pair(qc_high_halves(odd_a, odd_b), h, l, &k);
    }
    if ((p->qmin > INT8_MIN) || (p->qmax < INT8_MAX)) {
        for (int32_t i = 0; i < done; i++) {
            y[i] = (int8_t)qc_clip(y[i], p->qmin, p->qmax);
        }
    }
    return done;
}
#elif defined(QC_MVE) && (QC_PROFILE == QC_PROFILE_DYADIC)
static int32_t qc_add_fast(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, const qc_add_params *p)
{
    qc_halves k;
    if (!qc_split(p, &k)) {
        return 0;
    }
    const int32x4_t shift = vdupq_n_s32(-k.shift);
    const int32x4_t qmin = vdupq_n_s32(p->qmin);
    const int32x4_t qmax = vdupq_n_s32(p->qmax);
    for (int32_t i = 0; i < count; i += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(count - i));
        const int32x4_t va = vldrbq_z_s32(a + i, lanes);
        const int32x4_t vb = vldrbq_z_s32(b + i, lanes);
        const int32x4_t low = vmlaq_n_s32(vaddq_n_s32(vmulq_n_s32(va, k.l[0]), k.low), vb, k.l[1]);
        const int32x4_t high = vmlaq_n_s32(vaddq_n_s32(vmulq_n_s32(va, k.h[0]), k.high), vb, k.h[1]);
        const int32x4_t v = vshlq_s32(vaddq_s32(high, vshrq_n_s32(low, 16)), shift);
        vstrbq_p_s32(y + i, vminq_s32(vmaxq_s32(v, qmin), qmax), lanes);
    }
    return count;
}
#else
static int32_t qc_add_fast(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, const qc_add_params *p)
{
    (void)a;
    (void)b;
    (void)y;
    (void)count;
    (void)p;
    return 0;
}
#endif

void qc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, int32_t period, const qc_add_params *p)
{
    for (int32_t first = 0; first < count; first += period) {
        for (int32_t i = qc_add_fast(a, b, y, period, p); i < period; i++) {
            y[i] = qc_sum(a[i], b[i], p);
        }
        a += period;
        y += period;
    }
}
