/* Rows that the next strip of a depthwise convolution shares with the last one. */
#include "qc_internal.h"

void qc_depthwise_keep_s8(const qc_strip *strip, void *scratch, int32_t filled, int32_t rows, int32_t n)
{
    if (rows == 0) {
        return;
    }
#if defined(QC_DSP)
    const int32_t plane = (strip->rows * strip->width) / 2; /* words */
    const int32_t words = (rows * strip->width) / 2;
    qc_word *to = (qc_word *)scratch;
    for (int32_t c = 0; c < n; c++) {
        const qc_word *from = to + (((filled - rows) * strip->width) / 2);
        for (int32_t i = 0; i < words; i++) {
            to[i] = from[i];
        }
        to += plane;
    }
#else
    const int32_t row_bytes = strip->width * n;
    int8_t *to = (int8_t *)scratch;
    for (int32_t i = filled - rows; i < filled; i++) { /* a row at a time: rows never overlap each other */
        qc_copy_bytes(to, (const int8_t *)scratch + (i * row_bytes), row_bytes);
        to += row_bytes;
    }
#endif
}
