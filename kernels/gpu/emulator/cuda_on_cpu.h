// What CUDA C++ kernels need to compile as C++ for the CPU.
//
// Every memory access of a kernel is checked: the kernels are compiled with the compiler's thread-sanitizer
// instrumentation, whose hooks (memory.cpp) are ours. What the instrumentation cannot see (asynchronous copies,
// matrix loads) goes through the functions below, which check by themselves.
#pragma once

#include <math.h>
#include <stdint.h>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct alignas(8) int2 { int x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

extern "C" {
uint3 qc_emu_thread_index(void) __attribute__((const));
uint3 qc_emu_block_index(void) __attribute__((const));
uint3 qc_emu_block_size(void) __attribute__((const));
uint3 qc_emu_grid_size(void) __attribute__((const));

void qc_emu_sync_threads(void);
void qc_emu_sync_warp(void);
uint64_t qc_emu_shuffle(uint64_t value, int lane);  // the value of another lane
void qc_emu_aligned(const void *address, unsigned bytes);
void *qc_emu_shared(const char *name, unsigned bytes);

uint4 qc_emu_ldmatrix(const void *row);                // ldmatrix.x4.b16
int4 qc_emu_mma_s8(int4 c, uint4 a, uint2 b);          // m16n8k32, s8 x s8 -> s32
float4 qc_emu_mma_f16(float4 c, uint4 a, uint2 b);     // m16n8k16, f16 x f16 -> f32
float qc_emu_half_to_float(uint16_t bits);
uint16_t qc_emu_float_to_half(float value);
void qc_emu_copy_async(void *shared, const void *global, int bytes);
void qc_emu_copy_commit(void);
void qc_emu_copy_wait(int groups);                     // until at most so many groups are under way
}

#define threadIdx qc_emu_thread_index()
#define blockIdx qc_emu_block_index()
#define blockDim qc_emu_block_size()
#define gridDim qc_emu_grid_size()
#define __syncthreads() qc_emu_sync_threads()
#define __syncwarp() qc_emu_sync_warp()

template <class T>
static inline T __shfl_sync(unsigned, T value, int lane)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves up to eight bytes");
    uint64_t raw = 0;
    __builtin_memcpy(&raw, &value, sizeof(T));
    raw = qc_emu_shuffle(raw, lane);
    __builtin_memcpy(&value, &raw, sizeof(T));
    return value;
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits)
{
    return __shfl_sync(mask, value, int(threadIdx.x % 32) ^ bits);
}

static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 32; i += 8)
        sum += (unsigned)((int)(int8_t)(a >> i) * (int)(int8_t)(b >> i));
    return (int)sum;
}
