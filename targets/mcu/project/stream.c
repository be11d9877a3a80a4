/* SPDX-License-Identifier: Apache-2.0
 * Runs the model on every record of the file input.bin on the host and writes the results to output.bin, through
 * semihosting. Then writes two 32-bit numbers to cost.bin: the largest stack that any of these runs used, in bytes, and
 * the most ticks of the system timer that one took. On an emulator whose clock counts instructions (-icount shift=0)
 * these are instructions, 40 or so to a tick; otherwise they mean nothing. */
#include <stdint.h>

#include "flat.h"
#include "semihosting.h"

extern uint32_t qc_bss_end, qc_stack_top;

#define SYSTICK ((volatile uint32_t *)0xE000E010u) /* control, reload, current */
#define SYSTICK_RUN 5u                             /* enabled, processor clock, no interrupt */
#define SYSTICK_MASK 0x00FFFFFFu

#define PAINT 0xA5A5A5A5u
#define MARGIN_WORDS 32 /* below the stack pointer: what this function itself may still push */

static int64_t input[QC_FLAT_INPUT_WORDS];
static int64_t output[QC_FLAT_OUTPUT_WORDS];

int main(void);
void qc_stream_run(void);

/* Between these two the stack pointer is the caller's, so the paint that is gone was the model's. */
__attribute__((noinline)) void qc_stream_run(void)
{
    qc_flat_run(input, output);
}

static uint32_t *stack_pointer(void)
{
    uint32_t *pointer;
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
    return pointer;
}

int main(void)
{
    const int32_t from = qc_semihosting_open("input.bin", QC_SEMIHOSTING_READ);
    const int32_t to = qc_semihosting_open("output.bin", QC_SEMIHOSTING_WRITE);
    const int32_t report = qc_semihosting_open("cost.bin", QC_SEMIHOSTING_WRITE);
    uint32_t cost[2] = {0u, 0u};
    if ((from < 0) || (to < 0) || (report < 0)) {
        return 2;
    }
    SYSTICK[1] = SYSTICK_MASK;
    SYSTICK[2] = 0u;
    SYSTICK[0] = SYSTICK_RUN;
    while (qc_semihosting_read(from, input, QC_FLAT_INPUT_BYTES) == 0) {
        volatile uint32_t *const top = stack_pointer();
        volatile uint32_t *low = &qc_bss_end;
        for (volatile uint32_t *p = low; p < (top - MARGIN_WORDS); p++) {
            *p = PAINT;
        }
        const uint32_t before = SYSTICK[2];
        qc_stream_run();
        const uint32_t ticks = (before - SYSTICK[2]) & SYSTICK_MASK; /* it counts down */
        while ((low < (top - MARGIN_WORDS)) && (*low == PAINT)) {
            low++;
        }
        if ((uint32_t)((uintptr_t)top - (uintptr_t)low) > cost[0]) {
            cost[0] = (uint32_t)((uintptr_t)top - (uintptr_t)low);
        }
        cost[1] = (ticks > cost[1]) ? ticks : cost[1];
        if (qc_semihosting_write(to, output, QC_FLAT_OUTPUT_BYTES) != 0) {
            return 3;
        }
    }
    return (qc_semihosting_write(report, cost, sizeof cost) == 0) ? 0 : 4;
}
