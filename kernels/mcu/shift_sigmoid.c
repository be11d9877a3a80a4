/* Sigmoid, tanh, and x times sigmoid (ShiftGELU, SiLU) with exponentials by shifts (Li and Gu, arXiv:2207.01405,
 * sections 3.2 and 3.3).
 *
 *   v = x - input_zero_point; m = max(v, 0); a = exp(v - m), b = exp(-m), s = a + b
 *   g = (a 2^(gate_bits + 1) + s) div (2 s)
 *   y = rescale(g | 2 g - 2^gate_bits | v g) */
#include "qc_internal.h"

void qc_shift_sigmoid(const void *x, void *y, int32_t count, const qc_shift_sigmoid_params *p)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t v = qc_load_code(x, i, p->x_bits) - p->input_zero_point;
        const int32_t top = (v > 0) ? v : 0;
        const int64_t a = qc_shift_exp(v - top, p->unit, p->bits);
        const int64_t sum = a + qc_shift_exp(-top, p->unit, p->bits);
        const int32_t gate = (int32_t)(((a * ((int64_t)2 << p->gate_bits)) + sum) / (2 * sum));
        int32_t acc = gate;
        if (p->form == QC_GATED) {
            acc = v * gate;
        } else if (p->form == QC_TANH) {
            acc = (2 * gate) - ((int32_t)1 << p->gate_bits);
        } else {
            acc = gate;
        }
        const int32_t code = qc_requantize_any(acc, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
        qc_store_code(y, i, p->y_bits, code);
    }
}
