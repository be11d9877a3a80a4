/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later
 *
 * A TCG plugin for qemu-system-arm: counts executed instructions and writes the count each time one of some
 * watched addresses is reached, and at exit.
 *
 *   -plugin libcount.so,watch=FILE,out=FILE     FILE of watch: one hexadecimal address per line
 *
 * Output: lines "address count", count being the instructions executed before the one at that address; the last
 * line is "end count". The emulator is deterministic, so equal runs give equal files. An instruction that is skipped
 * by its condition counts as executed.
 *
 * QEMU's plugin interface, version 1 (QEMU 4.2 to 8.x), is declared here because distributions ship no header for
 * it. QEMU 9 dropped this version and refuses to load the plugin.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QC_CALLBACK_NO_REGISTERS = 0, QC_INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *counter,
                                                       uint64_t amount);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                                   void (*callback)(unsigned int, void *), int flags, void *data);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *),
                                           void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed;
static FILE *out;
static uint64_t *watched;
static size_t watched_count;

static int by_address(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void on_watched(unsigned int vcpu, void *address)
{
    (void)vcpu;
    fprintf(out, "%" PRIxPTR " %" PRIu64 "\n", (uintptr_t)address, executed);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t count = qemu_plugin_tb_n_insns(tb);
    (void)id;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (bsearch(&address, watched, watched_count, sizeof *watched, by_address) != NULL) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_watched, QC_CALLBACK_NO_REGISTERS,
                                                   (void *)(uintptr_t)address);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(insn, QC_INLINE_ADD_U64, &executed, 1);
    }
}

static void at_exit(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(out, "end %" PRIu64 "\n", executed);
    fclose(out);
}

static int read_watched(const char *path)
{
    FILE *file = fopen(path, "r");
    uint64_t address;
    if (file == NULL) {
        return -1;
    }
    while (fscanf(file, "%" SCNx64, &address) == 1) {
        watched = realloc(watched, (watched_count + 1) * sizeof *watched);
        if (watched == NULL) {
            fclose(file);
            return -1;
        }
        watched[watched_count++] = address;
    }
    fclose(file);
    qsort(watched, watched_count, sizeof *watched, by_address);
    return 0;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv);
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "watch=", 6) == 0) {
            if (read_watched(argv[i] + 6) != 0) {
                fprintf(stderr, "count_instructions: cannot read %s\n", argv[i] + 6);
                return -1;
            }
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (out == NULL || watched_count == 0) {
        fprintf(stderr, "count_instructions: needs watch=FILE,out=FILE\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
