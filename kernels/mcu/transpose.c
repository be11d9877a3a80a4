/* Axes of a dense array in another order. y is written in order, x is read with strides. */
#include <string.h>

#include "qc_internal.h"

void qc_transpose(const void *x, void *y, const qc_transpose_params *p)
{
    int32_t stride[4]; /* of x, in bytes, in y's order of axes */
    int32_t size[4];
    for (int32_t i = 0; i < 4; i++) {
        int32_t step = p->bytes;
        for (int32_t j = p->axes[i] + 1; j < 4; j++) {
            step *= p->shape[j];
        }
        stride[i] = step;
        size[i] = p->shape[p->axes[i]];
    }
    uint8_t *to = (uint8_t *)y;
    for (int32_t a = 0; a < size[0]; a++) {
        for (int32_t b = 0; b < size[1]; b++) {
            for (int32_t c = 0; c < size[2]; c++) {
                const uint8_t *from = (const uint8_t *)x + (a * stride[0]) + (b * stride[1]) + (c * stride[2]);
                for (int32_t d = 0; d < size[3]; d++) {
                    if (p->bytes == 1) {
                        *to = *from;
                    } else {
                        (void)memcpy(to, from, (size_t)p->bytes);
                    }
                    to += p->bytes;
                    from += stride[3];
                }
            }
        }
    }
}
