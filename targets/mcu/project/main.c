/* SPDX-License-Identifier: Apache-2.0
 * Self-check: runs the model on the vectors that were compiled in and compares every integer with what the reference
 * interpreter computed. Prints one line; returns 0 if all are equal. */
#include <stdint.h>

#include "flat.h"
#include "print.h"
#include "vectors.h"

static int64_t output[QC_FLAT_OUTPUT_WORDS];

int main(void);

static void print_number(int32_t number)
{
    char digits[12];
    int32_t at = (int32_t)sizeof digits - 1;
    digits[at] = '\0';
    do {
        at--;
        digits[at] = (char)('0' + (number % 10));
        number /= 10;
    } while (number > 0);
    qc_print(&digits[at]);
}

int main(void)
{
    int32_t differing = 0;
    for (int32_t i = 0; i < QC_VECTORS; i++) {
        const uint8_t *expected = (const uint8_t *)qc_vector_outputs[i];
        const uint8_t *got = (const uint8_t *)output;
        qc_flat_run(qc_vector_inputs[i], output);
        for (int32_t k = 0; k < QC_FLAT_OUTPUT_BYTES; k++) {
            differing += (got[k] != expected[k]) ? 1 : 0;
        }
    }
    qc_print((differing == 0) ? "PASS " : "FAIL ");
    print_number(QC_VECTORS);
    qc_print(" vectors, ");
    print_number(differing);
    qc_print(" bytes differ\n");
    return (differing == 0) ? 0 : 1;
}
