// The instructions that kernels are written in. On a device they are PTX; compiled with QC_EMULATOR they are calls
// of the CPU emulator, so that one source runs on both.
#pragma once

#ifdef QC_EMULATOR
#include "cuda_on_cpu.h"
#define QC_SHARED(type, name, count) type *name = (type *)qc_emu_shared(#name, sizeof(type) * (count))
// A kernel takes one struct; the emulator hands over its address.
#define QC_KERNEL(name, threads, type)                                                             \
    static void name##_body(const type p);                                                         \
    extern "C" __attribute__((visibility("default"))) void name(const void *raw) { name##_body(*(const type *)raw); } \
    static void name##_body(const type p)
#else
#define QC_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define QC_KERNEL(name, threads, type) extern "C" __global__ void __launch_bounds__(threads) name(const type p)
#ifdef __CUDACC_RTC__  // compiled at run time, without the host's headers
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif
#endif

namespace qc {

constexpr unsigned WARP = 32, ALL = 0xffffffffu;

// Four 8x8 matrices of 16-bit elements; lane i names the 16 bytes of row i % 8 of matrix i / 8.
__device__ __forceinline__ uint4 load_matrices(const void *row)
{
#ifdef QC_EMULATOR
    return qc_emu_ldmatrix(row);
#else
    uint4 r;
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(address) : "memory");
    return r;
#endif
}

// c + a b: a 16x32 and b 32x8 of signed bytes, c of int32.
__device__ __forceinline__ int4 multiply_s8(int4 c, uint4 a, uint2 b)
{
#ifdef QC_EMULATOR
    return qc_emu_mma_s8(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c.x), "+r"(c.y), "+r"(c.z), "+r"(c.w) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
    return c;
#endif
}

// c + a b: a 16x16 and b 16x8 of float16, c of float32.
__device__ __forceinline__ float4 multiply_f16(float4 c, uint4 a, uint2 b)
{
#ifdef QC_EMULATOR
    return qc_emu_mma_f16(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c.x), "+f"(c.y), "+f"(c.z), "+f"(c.w) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
    return c;
#endif
}

// Asynchronous copy of 4 or 16 bytes to shared memory.
template <int BYTES>
__device__ __forceinline__ void copy_async(void *shared, const void *global)
{
    static_assert(BYTES == 4 || BYTES == 16, "asynchronous copies are made of 4 or 16 bytes");
#ifdef QC_EMULATOR
    qc_emu_copy_async(shared, global, BYTES);
#else
    const unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(global) : "memory");
#endif
}

__device__ __forceinline__ void copy_commit()
{
#ifdef QC_EMULATOR
    qc_emu_copy_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait until at most GROUPS of the last groups of copies are under way.
template <int GROUPS>
__device__ __forceinline__ void copy_wait()
{
#ifdef QC_EMULATOR
    qc_emu_copy_wait(GROUPS);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// Elements that are read or written at once; a GPU stops at addresses that are not aligned to them, and so does the
// emulator.
template <class T>
__device__ __forceinline__ T load_vector(const void *from)
{
#ifdef QC_EMULATOR
    qc_emu_aligned(from, sizeof(T));
#endif
    return *(const T *)from;
}

template <class T>
__device__ __forceinline__ void store_vector(void *to, const T &value)
{
#ifdef QC_EMULATOR
    qc_emu_aligned(to, sizeof(T));
#endif
    *(T *)to = value;
}

template <class T>
__device__ __forceinline__ T warp_sum(T value)
{
    for (int bits = 16; bits > 0; bits >>= 1)
        value += __shfl_xor_sync(ALL, value, bits);
    return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value)
{
    for (int bits = 16; bits > 0; bits >>= 1) {
        const T other = __shfl_xor_sync(ALL, value, bits);
        value = other > value ? other : value;
    }
    return value;
}

__device__ __forceinline__ float half_to_float(uint16_t bits)
{
#ifdef QC_EMULATOR
    return qc_emu_half_to_float(bits);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#endif
}

__device__ __forceinline__ uint16_t float_to_half(float value)
{
#ifdef QC_EMULATOR
    return qc_emu_float_to_half(value);
#else
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

// A product that is rounded by itself; the compiler may make one instruction of `a * b + c`.
__device__ __forceinline__ float multiply_rounded(float a, float b)
{
#ifdef QC_EMULATOR
    return a * b;
#else
    return __fmul_rn(a, b);
#endif
}

__device__ __forceinline__ float float_of_bits(int32_t bits)
{
#ifdef QC_EMULATOR
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
#else
    return __int_as_float(bits);
#endif
}

// Sums of int32 that wrap around instead of overflowing.
__device__ __forceinline__ int add_wrapping(int a, int b) { return (int)((unsigned)a + (unsigned)b); }
__device__ __forceinline__ int multiply_wrapping(int a, int b) { return (int)((unsigned)a * (unsigned)b); }

__device__ __forceinline__ int4 times_256(int4 v)
{
    return {multiply_wrapping(v.x, 256), multiply_wrapping(v.y, 256), multiply_wrapping(v.z, 256), multiply_wrapping(v.w, 256)};
}

__device__ __forceinline__ int64_t clip(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

}  // namespace qc
