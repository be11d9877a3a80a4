// One result per thread: rescales, sums of codes, tables, products, shift-based functions, data movement.
//
// Definitions: qcompiler/ir/ops/quantized.py and integer.py.
#pragma once

#include "qc_requantize.cuh"
#include "qc_shift_exp.cuh"
#include "qc_strided.cuh"

namespace qc {

constexpr int OPERANDS = 4;

struct PointParams {
    Strided in[OPERANDS], out;
    const void *table;
    Rescale rescale;
    int64_t multiplier[OPERANDS];
    int32_t size[RANK];     // of the result
    int32_t inner[RANK];    // of the operand: pads, resizes
    int32_t first[RANK];    // place of the operand in the result: pads
    int32_t count, operands, shift, unit, bits, gate_bits, form, fill;
};

enum Form { SIGMOID, TANH, GATED };
enum PointOp { REQUANTIZE, SUM, LOOKUP, INTERPOLATE, MULTIPLY, SHIFT_SIGMOID, COPY, PAD, RESIZE, GATHER, WHERE, PLAIN, BYTES, TRIANGLE };
enum Plain { NOT_ZERO, NOT, AND, OR, XOR, EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, ADD, SUBTRACT, TIMES, LARGER, SMALLER,
             NEGATIVE, SIZE, SIGN, LIMITED, QUOTIENT, FLOOR_QUOTIENT, REMAINDER, CUT_REMAINDER };

__device__ __forceinline__ int64_t limited(int64_t v, const Rescale &r) { return clip(v + r.zero_point, r.low, r.high); }

__device__ __forceinline__ int64_t centred(const PointParams &p, int operand, const Place &place)
{
    const Strided &s = p.in[operand];
    return load_code(s, offset_of(place, s.stride)) - s.zero_point;
}

template <int PROFILE>
__device__ __forceinline__ int64_t sum_of_codes(const PointParams &p, const Place &place)
{
    if (PROFILE == FLOAT32_HALF_EVEN) {  // multipliers are the bits of float32, `fill` of what the zero points add
        float real = float_of_bits(p.fill);
        for (int i = p.operands - 1; i >= 0; i--)
            real = fmaf((float)load_code(p.in[i], offset_of(place, p.in[i].stride)), float_of_bits((int32_t)p.multiplier[i]), real);
        return clip(whole(rintf(real)), p.rescale.low, p.rescale.high);
    }
    int64_t total = 0;
    for (int i = 0; i < p.operands; i++)
        total += centred(p, i, place) * p.multiplier[i];
    if (PROFILE == DYADIC)
        return limited((total + ((int64_t)1 << (p.shift - 1))) >> p.shift, p.rescale);
    return limited(shift_half_even(total, p.shift), p.rescale);
}

// t = 256 table[i] + (table[i + 1] - table[i]) f between the knots around x.
__device__ __forceinline__ int64_t interpolate(const PointParams &p, int64_t code)
{
    const int u = (int)code + (1 << 15), i = u >> 8, f = u & 255;
    const int16_t *knots = (const int16_t *)p.table;
    const int t = knots[i] * 256 + (knots[i + 1] - knots[i]) * f;
    return limited((t + (1 << (p.shift - 1))) >> p.shift, p.rescale);
}

__device__ __forceinline__ int32_t shift_sigmoid(const PointParams &p, int64_t v)
{
    const int64_t m = v > 0 ? v : 0;
    const int64_t a = shift_exp(v - m, p.unit, p.bits), b = shift_exp(-m, p.unit, p.bits), s = a + b;
    const int64_t g = ((a << (p.gate_bits + 1)) + s) / (2 * s);
    return (int32_t)(p.form == SIGMOID ? g : p.form == TANH ? 2 * g - ((int64_t)1 << p.gate_bits) : v * g);
}

// Arithmetic of plain integers and truth values; the result wraps around in its type.
__device__ __forceinline__ int64_t plain(const PointParams &p, int64_t a, int64_t b)
{
    if (p.form >= QUOTIENT) {  // a division by 0 gives 0, as in NumPy; -1 is no division, which could overflow
        const int64_t q = b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b, r = b == 0 || b == -1 ? 0 : a % b;
        const bool lower = r != 0 && (r < 0) != (b < 0);
        return p.form == QUOTIENT ? q : p.form == FLOOR_QUOTIENT ? q - lower : p.form == REMAINDER ? r + (lower ? b : 0) : r;
    }
    switch (p.form) {
    case NOT_ZERO: return a != 0;
    case NOT: return a == 0;
    case AND: return a != 0 && b != 0;
    case OR: return a != 0 || b != 0;
    case XOR: return (a != 0) != (b != 0);
    case EQUAL: return a == b;
    case NOT_EQUAL: return a != b;
    case LESS: return a < b;
    case LESS_EQUAL: return a <= b;
    case GREATER: return a > b;
    case GREATER_EQUAL: return a >= b;
    case ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case SUBTRACT: return (int64_t)((uint64_t)a - (uint64_t)b);
    case TIMES: return (int64_t)((uint64_t)a * (uint64_t)b);
    case LARGER: return a > b ? a : b;
    case SMALLER: return a < b ? a : b;
    case NEGATIVE: return (int64_t)(0 - (uint64_t)a);
    case SIZE: return a < 0 ? (int64_t)(0 - (uint64_t)a) : a;
    case SIGN: return (a > 0) - (a < 0);
    default: return clip(a, p.multiplier[0], p.multiplier[1]);
    }
}

enum Border { CONSTANT, EDGE, REFLECT };

// Where a pad takes element `i` of an axis of `size` from.
__device__ __forceinline__ int at_border(int form, int i, int size)
{
    if (form == CONSTANT || size == 0)
        return i;
    if (form == EDGE)
        return i < 0 ? 0 : i >= size ? size - 1 : i;
    const int period = size > 1 ? 2 * (size - 1) : 1, at = (i % period + period) % period;
    return at < size ? at : period - at;
}

template <int OP, int PROFILE>
__device__ __forceinline__ void pointwise(const PointParams &p)
{
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (unsigned)p.count)
        return;
    const Place place = place_of(index, p.size);
    const Strided &x = p.in[0];
    int64_t y = 0;
    if (OP == REQUANTIZE)
        y = requantize<PROFILE>((int32_t)centred(p, 0, place), p.rescale, p.rescale.per_channel ? place.at[p.unit] : 0);
    if (OP == SUM)
        y = sum_of_codes<PROFILE>(p, place);
    if (OP == LOOKUP) {  // entries lie from the smallest code on
        const int64_t at = load_code(x, offset_of(place, x.stride)) + (x.kind == INT8 ? 128 : 0);
        y = p.out.kind == INT16 ? ((const int16_t *)p.table)[at] : p.out.kind == INT8 ? ((const int8_t *)p.table)[at] : ((const uint8_t *)p.table)[at];
    }
    if (OP == INTERPOLATE)
        y = interpolate(p, load_code(x, offset_of(place, x.stride)));
    if (OP == MULTIPLY)
        y = requantize<PROFILE>((int32_t)(centred(p, 0, place) * centred(p, 1, place)), p.rescale, 0);
    if (OP == SHIFT_SIGMOID)
        y = requantize<PROFILE>(shift_sigmoid(p, centred(p, 0, place)), p.rescale, 0);
    if (OP == COPY)
        y = load_code(x, offset_of(place, x.stride));
    if (OP == PAD) {
        bool inside = true;
        Place from;
        for (int i = 0; i < RANK; i++) {
            from.at[i] = at_border(p.form, place.at[i] - p.first[i], p.inner[i]);
            inside &= from.at[i] >= 0 && from.at[i] < p.inner[i];
        }
        y = inside ? load_code(x, offset_of(from, x.stride)) : p.fill;
    }
    if (OP == RESIZE) {  // nearest: floor(i in / out)
        Place from;
        for (int i = 0; i < RANK; i++)
            from.at[i] = (int32_t)((int64_t)place.at[i] * p.inner[i] / p.size[i]);
        y = load_code(x, offset_of(from, x.stride));
    }
    if (OP == GATHER) {  // in[1] holds indices; `form` is the axis of x that has stride 0 in in[0], `unit` its stride
        int64_t row = load_code(p.in[1], offset_of(place, p.in[1].stride));
        row += row < 0 ? p.bits : 0;
        y = load_code(x, offset_of(place, x.stride) + row * p.unit);
    }
    if (OP == WHERE) {
        const int64_t chosen = load_code(x, offset_of(place, x.stride));
        const Strided &s = p.in[chosen ? 1 : 2];
        y = load_code(s, offset_of(place, s.stride));
    }
    if (OP == TRIANGLE) {  // `form`: the upper one; `shift` is the diagonal
        const int over = place.at[RANK - 1] - place.at[RANK - 2] - p.shift;
        y = (p.form ? over >= 0 : over <= 0) ? load_code(x, offset_of(place, x.stride)) : 0;
    }
    if (OP == BYTES) {  // along axis `form`: high bytes, then low ones, 128 lower
        const int64_t v = load_code(x, offset_of(place, x.stride));
        y = place.at[RANK - 1 - p.form] == 0 ? v >> 8 : (v & 255) - 128;
    }
    if (OP == PLAIN) {
        const int64_t a = load_code(x, offset_of(place, x.stride));
        y = plain(p, a, p.operands > 1 ? load_code(p.in[1], offset_of(place, p.in[1].stride)) : 0);
    }
    store_code(p.out, offset_of(place, p.out.stride), y);
}

}  // namespace qc
