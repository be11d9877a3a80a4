/* y[i] = a[i] where the condition holds, else b[i]; operands repeat after their periods. */
#include "qc_internal.h"

static int32_t qc_next(int32_t i, int32_t period)
{
    return ((i + 1) < period) ? (i + 1) : 0;
}

void qc_where(const uint8_t *condition, const void *a, const void *b, void *y, const qc_where_params *p)
{
    int32_t c = 0;
    int32_t i = 0;
    int32_t j = 0;
    for (int32_t k = 0; k < p->count; k++) {
        const int held = condition[c] != 0u;
        qc_store_code(y, k, p->bits, held ? qc_load_code(a, i, p->bits) : qc_load_code(b, j, p->bits));
        c = qc_next(c, p->condition_period);
        i = qc_next(i, p->a_period);
        j = qc_next(j, p->b_period);
    }
}
