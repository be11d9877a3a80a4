// Warp-wide instructions with the fragment layouts of the PTX manual, and asynchronous copies, which land as late as
// the program allows.
#include <math.h>
#include <string.h>

#include "state.h"

namespace emulator {

uint64_t bank_conflicts;

// The eight rows of a matrix are read at once if they lie in different groups of four banks.
static void count_conflicts(const Thread *lanes)
{
    for (int m = 0; m < 4; m++) {
        unsigned used = 0;
        for (int i = 0; i < 8; i++) {
            const unsigned group = 1u << ((uintptr_t)lanes[8 * m + i].row / 16 % 8);
            bank_conflicts += (used & group) != 0;
            used |= group;
        }
    }
}

static void load_matrices(Thread *lanes)
{
    count_conflicts(lanes);
    unsigned char rows[32][16];
    for (int i = 0; i < 32; i++) {
        current = &lanes[i];
        if ((uintptr_t)lanes[i].row % 16) {
            message = std::string("kernel ") + launch.kernel + ": " + thread_name(lanes[i].number) +
                      " gives ldmatrix a row that is not aligned to 16 bytes";
            return;
        }
        memcpy(rows[i], lanes[i].row, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
        unsigned r[4];
        for (int m = 0; m < 4; m++)
            memcpy(&r[m], rows[8 * m + lane / 4] + 4 * (lane % 4), 4);
        lanes[lane].a = {r[0], r[1], r[2], r[3]};
    }
}

// Operands of a warp as matrices: 32 bytes of each of 16 rows of a, and of each of 8 columns of b.
static void gather(const Thread *lanes, unsigned char a[16][32], unsigned char b[8][32])
{
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = 4 * (lane % 4);
        memcpy(a[g] + t, &lanes[lane].a.x, 4);
        memcpy(a[g + 8] + t, &lanes[lane].a.y, 4);
        memcpy(a[g] + 16 + t, &lanes[lane].a.z, 4);
        memcpy(a[g + 8] + 16 + t, &lanes[lane].a.w, 4);
        memcpy(b[g] + t, &lanes[lane].b.x, 4);
        memcpy(b[g] + 16 + t, &lanes[lane].b.y, 4);
    }
}

static void multiply_s8(Thread *lanes)
{
    unsigned char a[16][32], b[8][32];
    unsigned d[16][8];
    gather(lanes, a, b);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            int sum = 0;
            for (int k = 0; k < 32; k++)
                sum += (int)(int8_t)a[i][k] * (int)(int8_t)b[j][k];
            d[i][j] = (unsigned)sum;
        }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = 2 * (lane % 4);
        int4 &c = lanes[lane].c;
        c = {(int)((unsigned)c.x + d[g][t]), (int)((unsigned)c.y + d[g][t + 1]), (int)((unsigned)c.z + d[g + 8][t]),
             (int)((unsigned)c.w + d[g + 8][t + 1])};
    }
}

static float half_value(const unsigned char *p)
{
    uint16_t bits;
    memcpy(&bits, p, 2);
    return qc_emu_half_to_float(bits);
}

// Exact products, added in double and rounded once; the hardware's order of additions is not specified.
static void multiply_f16(Thread *lanes)
{
    unsigned char a[16][32], b[8][32];
    double d[16][8];
    gather(lanes, a, b);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            d[i][j] = 0;
            for (int k = 0; k < 32; k += 2)
                d[i][j] += (double)half_value(a[i] + k) * (double)half_value(b[j] + k);
        }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = 2 * (lane % 4);
        float4 &c = lanes[lane].f;
        c = {(float)(c.x + d[g][t]), (float)(c.y + d[g][t + 1]), (float)(c.z + d[g + 8][t]), (float)(c.w + d[g + 8][t + 1])};
    }
}

void compute(Collective what, Thread *lanes)
{
    uint64_t values[32];
    switch (what) {
    case Collective::sync:
        warp_epoch[lanes[0].number / 32]++;
        break;
    case Collective::shuffle:
        for (int i = 0; i < 32; i++)
            values[i] = lanes[i].shuffle_value;
        for (int i = 0; i < 32; i++)
            lanes[i].shuffle_value = values[lanes[i].lane & 31];
        break;
    case Collective::ldmatrix:
        load_matrices(lanes);
        break;
    case Collective::mma_s8:
        multiply_s8(lanes);
        break;
    case Collective::mma_f16:
        multiply_f16(lanes);
        break;
    case Collective::none:
        break;
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

float qc_emu_half_to_float(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return bits & 0x8000 ? -size : size;
}

// Rounded to nearest, ties to even.
uint16_t qc_emu_float_to_half(float value)
{
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const float size = fabsf(value);
    if (isnan(value))
        return sign | 0x7e00;
    if (size >= 65520.0f)
        return sign | 0x7c00;
    int exponent;
    frexpf(size, &exponent);
    if (exponent < -13 || size == 0)
        exponent = -13;  // subnormal: steps of 2^-24
    const int steps = (int)rintf(ldexpf(size, 11 - exponent));  // 1024 to 2048, less where subnormal
    return (uint16_t)(sign | (steps + ((exponent + 13) << 10)));
}

uint64_t qc_emu_shuffle(uint64_t value, int lane)
{
    current->shuffle_value = value;
    current->lane = lane;
    meet_warp(Collective::shuffle);
    return current->shuffle_value;
}

uint4 qc_emu_ldmatrix(const void *row)
{
    check(row, 16, false, current->number);
    current->row = row;
    meet_warp(Collective::ldmatrix);
    return current->a;
}

int4 qc_emu_mma_s8(int4 c, uint4 a, uint2 b)
{
    current->a = a;
    current->b = b;
    current->c = c;
    meet_warp(Collective::mma_s8);
    return current->c;
}

float4 qc_emu_mma_f16(float4 c, uint4 a, uint2 b)
{
    current->a = a;
    current->b = b;
    current->f = c;
    meet_warp(Collective::mma_f16);
    return current->f;
}

void qc_emu_copy_async(void *shared, const void *global, int bytes)
{
    if ((uintptr_t)shared % bytes || (uintptr_t)global % bytes)
        fail("copies " + std::to_string(bytes) + " bytes asynchronously from or to an address that is not aligned to them");
    const Copy copy = {(char *)shared, (const char *)global, bytes};
    copy_started(copy);
    current->groups.back().push_back(copy);
}

void qc_emu_copy_commit(void) { current->groups.push_back({}); }

void qc_emu_copy_wait(int groups)
{
    auto &under_way = current->groups;
    while ((int)under_way.size() - 1 > groups) {
        for (const Copy &copy : under_way.front())
            copy_landed(copy);
        under_way.erase(under_way.begin());
    }
}
}
