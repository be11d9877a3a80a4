/* SPDX-License-Identifier: Apache-2.0 */
#include "semihosting.h"

#define SYS_OPEN 0x01
#define SYS_WRITE0 0x04
#define SYS_WRITE 0x05
#define SYS_READ 0x06
#define SYS_EXIT_EXTENDED 0x20
#define STOPPED_BY_APPLICATION 0x20026

static int32_t call(int32_t operation, const void *block)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void qc_semihosting_print(const char *text)
{
    (void)call(SYS_WRITE0, text);
}

int32_t qc_semihosting_open(const char *path, int32_t mode)
{
    uint32_t length = 0u;
    while (path[length] != '\0') {
        length++;
    }
    const uint32_t block[3] = {(uint32_t)(uintptr_t)path, (uint32_t)mode, length};
    return call(SYS_OPEN, block);
}

int32_t qc_semihosting_read(int32_t handle, void *data, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)data, bytes};
    return call(SYS_READ, block);
}

int32_t qc_semihosting_write(int32_t handle, const void *data, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)data, bytes};
    return call(SYS_WRITE, block);
}

void qc_semihosting_exit(int32_t code)
{
    const uint32_t block[2] = {STOPPED_BY_APPLICATION, (uint32_t)code};
    for (;;) {
        (void)call(SYS_EXIT_EXTENDED, block);
    }
}
