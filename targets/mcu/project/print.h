/* SPDX-License-Identifier: Apache-2.0
 * How the self-check reports. One of print_host.c, print_semihosting.c and print_uart.c is linked. */
#ifndef QC_PRINT_H
#define QC_PRINT_H

void qc_print(const char *text);

#endif
