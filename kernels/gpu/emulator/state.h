// State of the emulator, shared by its parts: fibers and barriers (scheduler.cpp), checked memory (memory.cpp),
// warp-wide instructions (warp.cpp). One launch at a time, one block at a time, one thread at a time.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "cuda_on_cpu.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace emulator {

enum class Wait { none, block, warp, finished };
enum class Collective { none, sync, shuffle, ldmatrix, mma_s8, mma_f16 };

struct Copy { char *to; const char *from; int bytes; };

struct Thread {
    void *stack_pointer;
    Wait wait;
    Collective collective;      // what it waits for with its warp
    uint3 index;
    unsigned number;            // in the block
    uint64_t shuffle_value;     // operands and results of warp-wide instructions
    int lane;
    const void *row;
    uint4 a;
    uint2 b;
    int4 c;
    float4 f;
    std::vector<std::vector<Copy>> groups;  // asynchronous copies under way, the last group not yet committed
};

// A buffer of global memory that a launch may touch. mode 0: read; 1: written, every byte; 2: written in part.
struct Window { const char *name; char *data; int64_t size; int mode; };

struct Launch {
    const char *kernel;
    void (*body)(const void *);
    uint3 grid, block, at;
    const char *parameters;
    int64_t parameter_bytes;
    Window *windows;
    int window_count;
};

extern Launch launch;
extern std::vector<Thread> threads;
extern Thread *current;
extern std::vector<uint32_t> warp_epoch;  // raised by every __syncwarp and __syncthreads
extern uint32_t block_epoch;              // raised by every __syncthreads
extern uint64_t bank_conflicts;            // of matrix loads
extern std::string message;               // of the first error, empty if there is none

// Note an error of the current thread and leave it for good.
[[noreturn]] void fail(const std::string &what);
std::string thread_name(unsigned number);

// Wait for the other lanes of the warp, which have to ask for the same.
void meet_warp(Collective what);
void compute(Collective what, Thread *lanes);

// scheduler.cpp -> memory.cpp
void begin_launch();
void begin_block();
void end_launch();
void check(const void *address, int64_t bytes, bool write, unsigned by);
bool on_a_stack(const void *address);
void copy_started(const Copy &copy);
void copy_landed(const Copy &copy);

}  // namespace emulator
