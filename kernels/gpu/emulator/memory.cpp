// Checked memory. A kernel may touch its own stack, its parameters, the shared arrays of its block and the buffers
// that the launch names; anything else is out of bounds.
//
// Races in shared memory: for each byte the last writer and up to three last readers are kept with the epochs in
// which they came. Two accesses of different threads, one of them a write, need a __syncthreads between them, or a
// __syncwarp if both are of one warp. Buffers in global memory: no byte is written by one thread and touched by
// another within a launch.
#include <stdio.h>
#include <string.h>

#include "state.h"

namespace emulator {

static const uint16_t NOBODY = 0xffff;
static const size_t SHARED_BYTES = 228 * 1024, GAP = 64;

struct Access { uint32_t block, warp; uint16_t thread; };
struct Cell { Access write, read[3]; uint16_t array; uint16_t copier; };
struct Array { const char *name; size_t first, bytes; };
struct GlobalCell { uint32_t writer, reader; };

alignas(256) static char shared[SHARED_BYTES];
static const Access NO_ACCESS = {0, 0, NOBODY};
static std::vector<Cell> cells(SHARED_BYTES, Cell{NO_ACCESS, {NO_ACCESS, NO_ACCESS, NO_ACCESS}, NOBODY, NOBODY});
static std::vector<Array> arrays;
static size_t shared_used;
static std::vector<std::vector<GlobalCell>> global_cells;
static int last_window;
static const uint32_t MANY = 0xffffffffu;

static std::string offset_text(int64_t offset, const char *what, const char *name, int64_t size)
{
    char text[240];
    snprintf(text, sizeof text, "byte %lld of %s %s, which has %lld bytes", (long long)offset, what, name, (long long)size);
    return text;
}

static void check_shared(size_t first, int64_t bytes, bool write, unsigned by)
{
    const Access me = {block_epoch, warp_epoch[by / 32], (uint16_t)by};
    auto unordered = [&](const Access &other) {
        if (other.thread == NOBODY || other.thread == by || other.block != me.block)
            return false;
        return other.thread / 32 != by / 32 || other.warp == me.warp;
    };
    const uint16_t array = first < SHARED_BYTES ? cells[first].array : NOBODY;
    for (int64_t i = 0; i < bytes; i++) {
        const size_t at = first + i;
        if (at >= SHARED_BYTES || cells[at].array == NOBODY || cells[at].array != array) {
            const Array *near = nullptr;
            for (const Array &a : arrays)
                if (near == nullptr || (a.first <= at && a.first >= near->first))
                    near = &a;
            const char *verb = write ? "writes out of bounds: " : "reads out of bounds: ";
            fail(verb + (near ? offset_text((int64_t)at - (int64_t)near->first, "shared array", near->name, near->bytes)
                              : std::string("shared memory that no array has")));
        }
        Cell &c = cells[at];
        auto where = [&] {
            const Array &a = arrays[array];
            return "at " + offset_text((int64_t)at - (int64_t)a.first, "shared array", a.name, a.bytes);
        };
        if (c.copier != NOBODY)
            fail("races " + where() + ": the asynchronous copy of " + thread_name(c.copier) + " has not been waited for");
        if (unordered(c.write))
            fail("races " + where() + ": written by " + thread_name(c.write.thread) + " with no barrier between");
        if (write) {
            for (const Access &r : c.read)
                if (unordered(r))
                    fail("races " + where() + ": read by " + thread_name(r.thread) + " with no barrier between");
            c.write = me;
            continue;
        }
        if (c.write.thread == NOBODY)
            fail("reads " + where() + ", that no thread of the block has written");
        if (c.read[0].thread != by) {
            // read[0]: the last reader; read[1]: before it, of its warp; read[2]: before it, of another warp
            if (c.read[0].thread != NOBODY && c.read[0].thread / 32 == by / 32)
                c.read[1] = c.read[0];
            else {
                c.read[2] = c.read[0];
                c.read[1].thread = NOBODY;
            }
        }
        c.read[0] = me;
    }
}

static uint32_t global_thread(unsigned by)
{
    const uint3 b = launch.at, g = launch.grid;
    return ((b.z * g.y + b.y) * g.x + b.x) * (uint32_t)threads.size() + by + 1;
}

static void check_window(int index, int64_t first, int64_t bytes, bool write, unsigned by)
{
    const Window &w = launch.windows[index];
    const std::string where = first + bytes > w.size || w.mode == 0 ? offset_text(first, "buffer", w.name, w.size) : "";
    if (first + bytes > w.size)
        fail((write ? "writes out of bounds: " : "reads out of bounds: ") + std::to_string(bytes) + " bytes from " + where);
    if (w.mode == 0) {
        if (write)
            fail("writes " + where + " and may only be read");
        return;
    }
    const uint32_t me = global_thread(by);
    for (int64_t i = first; i < first + bytes; i++) {
        GlobalCell &c = global_cells[index][i];
        const bool written = c.writer != 0 && c.writer != me, read = write && c.reader != 0 && c.reader != me;
        if (written || read)
            fail("races at " + offset_text(i, "buffer", w.name, w.size) + (written ? ": written" : ": read") +
                 " by another thread in the same launch");
        if (write)
            c.writer = me;
        else
            c.reader = c.reader == 0 || c.reader == me ? me : MANY;
    }
}

void check(const void *address, int64_t bytes, bool write, unsigned by)
{
    const char *p = (const char *)address;
    if (on_a_stack(p))
        return;
    if (p >= shared && p < shared + SHARED_BYTES)
        return check_shared(p - shared, bytes, write, by);
    for (int n = 0; n < launch.window_count; n++) {
        const int index = (last_window + n) % launch.window_count;
        const Window &w = launch.windows[index];
        if (p >= w.data && p < w.data + w.size) {
            last_window = index;
            return check_window(index, p - w.data, bytes, write, by);
        }
    }
    if (!write && p >= launch.parameters && p + bytes <= launch.parameters + launch.parameter_bytes)
        return;
    const Window *near = nullptr;
    for (int i = 0; i < launch.window_count; i++) {
        const Window &w = launch.windows[i];
        const int64_t gap = p < w.data ? w.data - p : p - w.data - w.size;
        const int64_t best = near == nullptr ? INT64_MAX : p < near->data ? near->data - p : p - near->data - near->size;
        if (gap < best)
            near = &w;
    }
    const std::string verb = write ? "writes out of bounds: " : "reads out of bounds: ";
    if (near == nullptr)
        fail(verb + "the launch names no buffer");
    fail(verb + offset_text(p - near->data, "buffer", near->name, near->size));
}

void copy_started(const Copy &copy)
{
    const unsigned by = current->number;
    check(copy.from, copy.bytes, false, by);
    check(copy.to, copy.bytes, true, by);
    for (int i = 0; i < copy.bytes; i++)
        cells[copy.to - shared + i].copier = (uint16_t)by;
}

void copy_landed(const Copy &copy)
{
    for (int i = 0; i < copy.bytes; i++)
        cells[copy.to - shared + i].copier = NOBODY;
    check(copy.to, copy.bytes, true, current->number);
    memcpy(copy.to, copy.from, copy.bytes);
}

void begin_launch()
{
    last_window = 0;
    global_cells.resize(launch.window_count);
    for (int i = 0; i < launch.window_count; i++)
        global_cells[i].assign(launch.windows[i].mode ? launch.windows[i].size : 0, GlobalCell{0, 0});
}

void begin_block()
{
    for (size_t i = 0; i < shared_used && i < SHARED_BYTES; i++)
        cells[i].array = NOBODY;
    arrays.clear();
    shared_used = 0;
}

void end_launch()
{
    for (int i = 0; i < launch.window_count; i++) {
        const Window &w = launch.windows[i];
        int64_t missing = 0, first = -1;
        for (int64_t k = 0; w.mode == 1 && k < w.size; k++)
            if (global_cells[i][k].writer == 0) {
                first = first < 0 ? k : first;
                missing++;
            }
        if (missing)
            message = std::string("kernel ") + launch.kernel + ": leaves " + std::to_string(missing) +
                      " bytes unwritten, the first is " + offset_text(first, "buffer", w.name, w.size);
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" void *qc_emu_shared(const char *name, unsigned bytes)
{
    for (const Array &a : arrays)
        if (strcmp(a.name, name) == 0)
            return shared + a.first;
    if (shared_used + bytes > SHARED_BYTES)
        fail("needs more shared memory than any device has");
    for (size_t i = shared_used; i < shared_used + bytes; i++)
        cells[i] = {NO_ACCESS, {NO_ACCESS, NO_ACCESS, NO_ACCESS}, (uint16_t)arrays.size(), NOBODY};
    arrays.push_back({name, shared_used, bytes});
    shared_used = (shared_used + bytes + 2 * GAP - 1) / GAP * GAP;
    return shared + arrays.back().first;
}

extern "C" void qc_emu_aligned(const void *address, unsigned bytes)
{
    if ((uintptr_t)address % bytes && !on_a_stack(address))
        fail("accesses " + std::to_string(bytes) + " bytes at an address that is not aligned to them");
}

// What the compiler's instrumentation calls before every access.
extern "C" {
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
#define HOOKS(size)                                                                                \
    void __tsan_read##size(void *p) { check(p, size, false, current->number); }                             \
    void __tsan_write##size(void *p) { check(p, size, true, current->number);  }                             \
    void __tsan_unaligned_read##size(void *p) { check(p, size, false, current->number); }          \
    void __tsan_unaligned_write##size(void *p) { check(p, size, true, current->number); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *p, unsigned long n) { check(p, (int64_t)n, false, current->number); }
void __tsan_write_range(void *p, unsigned long n) { check(p, (int64_t)n, true, current->number); }
}
