/* SPDX-License-Identifier: Apache-2.0
 * Reset and faults of an emulated Cortex-M board. A part of your own has its vendor's start-up code instead. */
#include <stdint.h>

#include "semihosting.h"

extern uint32_t qc_stack_top, qc_data_load, qc_data_start, qc_data_end, qc_bss_start, qc_bss_end;

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);

#define FAULT_EXIT_CODE 99
#define CPACR ((volatile uint32_t *)0xE000ED88u)

void Reset_Handler(void)
{
    const uint32_t *from = &qc_data_load;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *CPACR |= 0xFu << 20; /* floating point and vector registers */
    __asm__ volatile("dsb\n isb");
#endif
    for (uint32_t *to = &qc_data_start; to < &qc_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = &qc_bss_start; to < &qc_bss_end; to++) {
        *to = 0u;
    }
    qc_semihosting_exit(main());
}

void Fault_Handler(void)
{
    qc_semihosting_print("fault\n");
    qc_semihosting_exit(FAULT_EXIT_CODE);
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const handler vectors[16] = {
    (handler)&qc_stack_top, Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
};
