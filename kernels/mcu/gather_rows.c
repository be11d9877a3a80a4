/* Rows of a table by their numbers (an embedding). */
#include "qc_internal.h"

void qc_gather_rows(const void *table, const int32_t *index, void *y, int32_t count, int32_t rows, int32_t bytes)
{
    int8_t *to = (int8_t *)y;
    for (int32_t i = 0; i < count; i++) {
        const int32_t asked = index[i];
        const int32_t row = qc_clip((asked < 0) ? (asked + rows) : asked, 0, rows - 1);
        qc_copy_bytes(to, (const int8_t *)table + (row * bytes), bytes);
        to += bytes;
    }
}
