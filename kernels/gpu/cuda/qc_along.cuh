// Functions along one axis that are no sums of independent parts: places of extrema, running sums, the largest elements
// in order; and indexing by several axes at once. A thread works through a row, so results do not depend on an order.
#pragma once

#include "qc_real.cuh"

namespace qc {

struct AlongParams {
    Strided x, out, index;        // rows; `index` is the second result of TOP
    int64_t x_step, out_step, index_step;  // strides along the axis
    int32_t size[RANK];           // rows
    int32_t rows, length, most;   // `most`: results of TOP
    int32_t smallest;             // instead of the largest
};

enum Along { PLACE, RUNNING, TOP };

// T: float, or int64_t for integers of any width.
template <class T, int FORM>
__device__ __forceinline__ void along(const AlongParams &p)
{
    const unsigned row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= (unsigned)p.rows)
        return;
    const Place place = place_of(row, p.size);
    const int64_t x0 = offset_of(place, p.x.stride), out = offset_of(place, p.out.stride);
    auto number = [&](int i) { return element<T>(p.x, x0 + i * p.x_step); };
    auto before = [&](T a, int i, T b, int j) { return a == b ? i < j : p.smallest ? a < b : a > b; };
    if (FORM == RUNNING) {
        T total = 0;
        for (int i = 0; i < p.length; i++) {
            total = sizeof(T) == 4 ? total + number(i) : (T)((uint64_t)total + (uint64_t)number(i));
            put(p.out, out + i * p.out_step, total);
        }
        return;
    }
    const int64_t places = offset_of(place, p.index.stride);
    T last = 0;
    int taken = -1;  // the place of the last result
    for (int r = 0; r < (FORM == PLACE ? 1 : p.most); r++) {
        int best = -1;
        T found = 0;
        for (int i = 0; i < p.length; i++) {
            const T v = number(i);
            if ((taken < 0 || before(last, taken, v, i)) && (best < 0 || before(v, i, found, best))) {
                best = i;
                found = v;
            }
        }
        last = found;
        taken = best;
        if (FORM == TOP)
            put(p.out, out + r * p.out_step, found);
        store_code(FORM == TOP ? p.index : p.out, FORM == TOP ? places + r * p.index_step : out, best);
    }
}

struct IndexParams {
    Strided x, index, out;        // over the result; of scatter_nd over the axes behind the indexed ones, x and index without gaps
    int64_t step[RANK];           // strides of the axes that are indexed, of x or of the result
    int64_t index_step;
    int32_t extent[RANK];         // sizes of these axes
    int32_t size[RANK], count, depth;
    int32_t places, add;          // of scatter_nd: indices; added instead of replaced
};

__device__ __forceinline__ int64_t indexed(const IndexParams &p, int64_t at)
{
    int64_t offset = 0;
#pragma unroll 1
    for (int i = 0; i < p.depth; i++) {
        const int64_t v = load_code(p.index, at + i * p.index_step);
        offset += (v < 0 ? v + p.extent[i] : v) * p.step[i];
    }
    return offset;
}

__device__ __forceinline__ void gather_nd(const IndexParams &p)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)p.count)
        return;
    const Place place = place_of(i, p.size);
    const int64_t from = offset_of(place, p.x.stride) + indexed(p, offset_of(place, p.index.stride));
    store_code(p.out, offset_of(place, p.out.stride), load_code(p.x, from));
}

// Of equal indices the last one wins, or all are added in order: a thread per element behind the indexed axes.
template <class T>
__device__ __forceinline__ void scatter_nd(const IndexParams &p)
{
    const unsigned behind = blockIdx.x * blockDim.x + threadIdx.x;
    if (behind >= (unsigned)p.count)
        return;
    const int64_t first = offset_of(place_of(behind, p.size), p.out.stride);
    for (int i = 0; i < p.places; i++) {
        const int64_t to = first + indexed(p, (int64_t)i * p.depth);
        const T v = element<T>(p.x, (int64_t)i * p.count + behind);
        put(p.out, to, p.add ? element<T>(p.out, to) + v : v);
    }
}

}  // namespace qc
