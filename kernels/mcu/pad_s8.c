/* An image [height, width, channels] surrounded by a constant code. */
#include <string.h>

#include "qc_internal.h"

void qc_pad_s8(const int8_t *x, int8_t *y, const qc_pad_s8_params *p)
{
    const size_t channels = (size_t)p->channels;
    const size_t inside = (size_t)p->in_width * channels;
    const size_t before = (size_t)p->pad_left * channels;
    const size_t after = (size_t)p->pad_right * channels;
    const size_t row = before + inside + after;
    (void)memset(y, p->value, (size_t)p->pad_top * row);
    y += (size_t)p->pad_top * row;
    for (int32_t i = 0; i < p->in_height; i++) {
        (void)memset(y, p->value, before);
        (void)memcpy(y + before, x, inside);
        (void)memset(y + before + inside, p->value, after);
        x += inside;
        y += row;
    }
    (void)memset(y, p->value, (size_t)p->pad_bottom * row);
}
