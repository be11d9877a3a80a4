/* SPDX-License-Identifier: Apache-2.0
 * Serial port of Arm's MPS2 boards (CMSDK APB UART), which QEMU emulates. For a part of your own, replace the three
 * registers by those of its UART; everything else stays. */
#include "print.h"

#include <stdint.h>

#ifndef QC_UART_BASE
#define QC_UART_BASE 0x40004000u
#endif

#define UART_DATA (*(volatile uint32_t *)(QC_UART_BASE + 0x00u))
#define UART_STATE (*(volatile uint32_t *)(QC_UART_BASE + 0x04u))
#define UART_CONTROL (*(volatile uint32_t *)(QC_UART_BASE + 0x08u))
#define UART_DIVIDER (*(volatile uint32_t *)(QC_UART_BASE + 0x10u))

#define STATE_TRANSMIT_FULL 1u
#define CONTROL_TRANSMIT 1u
#define SMALLEST_DIVIDER 16u

void qc_print(const char *text)
{
    UART_DIVIDER = SMALLEST_DIVIDER;
    UART_CONTROL = CONTROL_TRANSMIT;
    for (; *text != '\0'; text++) {
        while ((UART_STATE & STATE_TRANSMIT_FULL) != 0u) {
        }
        UART_DATA = (uint32_t)(unsigned char)*text;
    }
}
