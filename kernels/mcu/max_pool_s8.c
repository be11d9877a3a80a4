/* Largest code of each window; padding never wins. A window without any code of the image gives -128. */
#include "qc_internal.h"

/* y[i] = max(x[i], y[i]) */
static void qc_raise(const int8_t *x, int8_t *y, int32_t n)
{
    int32_t i = 0;
#if defined(QC_DSP)
    for (; (i + 4) <= n; i += 4) { /* SSUB8 compares, SEL picks */
        const uint32_t next = *(const qc_unaligned_word *)(const void *)(x + i);
        uint32_t best = *(const qc_unaligned_word *)(const void *)(y + i);
        uint32_t difference;
        __asm__("ssub8 %[d], %[n], %[b]\n\tsel %[b], %[n], %[b]"
                : [b] "+r"(best), [d] "=&r"(difference)
                : [n] "r"(next));
        *(qc_unaligned_word *)(void *)(y + i) = best;
    }
#elif defined(QC_MVE)
    for (; (i + 16) <= n; i += 16) {
        vstrbq_s8(y + i, vmaxq_s8(vldrbq_s8(x + i), vldrbq_s8(y + i)));
    }
#endif
    for (; i < n; i++) {
        y[i] = (x[i] > y[i]) ? x[i] : y[i];
    }
}

static void qc_window(const int8_t *x, int8_t *y, const qc_window_params *v, int32_t top, int32_t left)
{
    const int32_t channels = v->in_channels;
    int first = 1;
    for (int32_t i = 0; i < v->kernel_height; i++) {
        const int32_t r = top + (i * v->dilation_height);
        for (int32_t j = 0; j < v->kernel_width; j++) {
            const int32_t q = left + (j * v->dilation_width);
            if ((r >= 0) && (r < v->in_height) && (q >= 0) && (q < v->in_width)) {
                const int8_t *from = x + (((r * v->in_width) + q) * channels);
                if (first == 0) {
                    qc_raise(from, y, channels);
                } else if (from != y) {
                    qc_copy_bytes(y, from, channels);
                }
                first = 0;
            }
        }
    }
    if (first != 0) {
        qc_fill_bytes(y, INT8_MIN, channels);
    }
}

void qc_max_pool_s8(const int8_t *x, int8_t *y, const qc_max_pool_params *p)
{
    const qc_window_params *v = &p->window;
    for (int32_t row = 0; row < v->out_height; row++) {
        const int32_t top = (row * v->stride_height) - v->pad_top;
        for (int32_t col = 0; col < v->out_width; col++) {
            qc_window(x, y, v, top, (col * v->stride_width) - v->pad_left);
            y += v->in_channels;
        }
    }
}
