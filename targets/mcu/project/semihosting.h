/* SPDX-License-Identifier: Apache-2.0
 * Services of a debugger or emulator on the host (Arm semihosting, version 2), for tests only. */
#ifndef QC_SEMIHOSTING_H
#define QC_SEMIHOSTING_H

#include <stdint.h>

/* Modes of qc_semihosting_open. */
#define QC_SEMIHOSTING_READ 1
#define QC_SEMIHOSTING_WRITE 5

/* Write text to the host's console. */
void qc_semihosting_print(const char *text);

/* Open a file of the host; returns a handle, or -1. */
int32_t qc_semihosting_open(const char *path, int32_t mode);

/* Read or write `bytes` bytes; return the number of bytes that were NOT transferred. */
int32_t qc_semihosting_read(int32_t handle, void *data, uint32_t bytes);
int32_t qc_semihosting_write(int32_t handle, const void *data, uint32_t bytes);

/* End the emulation; `code` becomes the exit status of the emulator. */
void qc_semihosting_exit(int32_t code);

#endif
