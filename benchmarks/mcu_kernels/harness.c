/* Runs kernels on cases from a file and writes their results to another: the same program on the host and, with files
 * through semihosting, on an emulated core.
 *
 * Input:  int32 {count, 0}, then per case int32 {op, scalars, blobs, result bytes, x offset, scratch bytes, 0, 0}, the
 *         scalars (int32, padded to 8 bytes), and per blob int32 {bytes, 0} and its data (padded to 8 bytes).
 * Output: per case int32 {status, result bytes} and the result (padded to 8 bytes).
 * An x offset >= 0 puts the first blob that many bytes after the start of the result, in the same buffer.
 * Status: 0 done, 1 the scratch size differs from the predicted one, 2 written outside result or scratch, 3 unknown op. */
#include <string.h>

#include "qc_kernels.h"

#define CAPACITY (2 << 20)
#define BUFFER (128 << 10)
#define GUARD 64
#define CANARY 0x5A
#define MAX_SCALARS 40
#define MAX_BLOBS 8

#if defined(__arm__)
#include "semihosting.h"

static int32_t read_all(const char *path, uint8_t *data)
{
    const int32_t file = qc_semihosting_open(path, QC_SEMIHOSTING_READ);
    return (file < 0) ? -1 : (CAPACITY - qc_semihosting_read(file, data, CAPACITY));
}

static int write_all(const char *path, const uint8_t *data, int32_t bytes)
{
    const int32_t file = qc_semihosting_open(path, QC_SEMIHOSTING_WRITE);
    return (file < 0) ? -1 : (int)qc_semihosting_write(file, data, (uint32_t)bytes);
}
#else
#include <stdio.h>

static int32_t read_all(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return -1;
    }
    const size_t bytes = fread(data, 1, CAPACITY, file);
    (void)fclose(file);
    return (int32_t)bytes;
}

static int write_all(const char *path, const uint8_t *data, int32_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return -1;
    }
    const size_t written = fwrite(data, 1, (size_t)bytes, file);
    return (fclose(file) != 0) || (written != (size_t)bytes);
}
#endif

#define ALIGNED __attribute__((aligned(8)))
static uint8_t input[CAPACITY] ALIGNED;
static uint8_t output[1 << 20] ALIGNED;
static uint8_t result_buffer[BUFFER + (2 * GUARD)] ALIGNED;
static uint8_t scratch_buffer[BUFFER + (2 * GUARD)] ALIGNED;

typedef struct {
    int32_t op;
    int32_t result_bytes;
    int32_t x_offset;
    int32_t scratch_bytes;
    int32_t scalars;
    int32_t s[MAX_SCALARS];
    int32_t blobs;
    const void *b[MAX_BLOBS];
    int32_t bytes[MAX_BLOBS];
} qc_case;

static int32_t next_scalar;

static int16_t take(const qc_case *c)
{
    return (int16_t)c->s[next_scalar++];
}

static int32_t take32(const qc_case *c)
{
    return c->s[next_scalar++];
}

static qc_window_params take_window(const qc_case *c)
{
    qc_window_params v;
    v.in_height = take(c);
    v.in_width = take(c);
    v.in_channels = take(c);
    v.out_height = take(c);
    v.out_width = take(c);
    v.out_channels = take(c);
    v.kernel_height = take(c);
    v.kernel_width = take(c);
    v.stride_height = take(c);
    v.stride_width = take(c);
    v.pad_top = take(c);
    v.pad_left = take(c);
    v.dilation_height = take(c);
    v.dilation_width = take(c);
    return v;
}

/* Blobs: bias, multiplier, shift from `first`. */
static qc_rescale_params take_rescale(const qc_case *c, int32_t first)
{
    qc_rescale_params r;
    r.bias = (const int32_t *)c->b[first];
    r.multiplier = (const int32_t *)c->b[first + 1];
    r.shift = (const int8_t *)c->b[first + 2];
    r.zero_point = take(c);
    r.qmin = take(c);
    r.qmax = take(c);
    r.flags = take(c);
    return r;
}

static qc_add_params take_add(const qc_case *c)
{
    qc_add_params a;
    const uint32_t low = (uint32_t)take32(c);
    a.offset = (int64_t)(((uint64_t)(uint32_t)take32(c) << 32) | low);
    a.multiplier[0] = take32(c);
    a.multiplier[1] = take32(c);
    a.shift = take(c);
    a.zero_point = take(c);
    a.qmin = take(c);
    a.qmax = take(c);
    return a;
}

static qc_mul_params take_mul(const qc_case *c)
{
    qc_mul_params m;
    m.multiplier = take32(c);
    m.shift = take(c);
    m.a_zero_point = take(c);
    m.b_zero_point = take(c);
    m.zero_point = take(c);
    m.qmin = take(c);
    m.qmax = take(c);
    return m;
}

static qc_conv2d_s8_params take_conv(const qc_case *c)
{
    qc_conv2d_s8_params p;
    p.window = take_window(c);
    p.rescale = take_rescale(c, 2);
    p.weights = c->b[1];
    p.groups = take(c);
    p.input_zero_point = take(c);
    p.columns = take(c);
    p.weight_bits = take(c);
    return p;
}

#include "harness_ops.h"

static int intact(const uint8_t *buffer, int32_t used)
{
    for (int32_t i = 0; i < GUARD; i++) {
        if ((buffer[i] != CANARY) || (buffer[GUARD + used + i] != CANARY)) {
            return 0;
        }
    }
    return 1;
}

static const uint8_t *parse(const uint8_t *at, qc_case *c)
{
    int32_t head[8];
    (void)memcpy(head, at, sizeof head);
    at += sizeof head;
    c->op = head[0];
    c->scalars = head[1];
    c->blobs = head[2];
    c->result_bytes = head[3];
    c->x_offset = head[4];
    c->scratch_bytes = head[5];
    (void)memcpy(c->s, at, (size_t)c->scalars * 4u);
    at += (((size_t)c->scalars * 4u) + 7u) & ~(size_t)7u;
    for (int32_t i = 0; i < c->blobs; i++) {
        (void)memcpy(&c->bytes[i], at, 4u);
        c->b[i] = (c->bytes[i] == 0) ? NULL : (at + 8);
        at += 8u + (((size_t)c->bytes[i] + 7u) & ~(size_t)7u);
    }
    return at;
}

/* Instructions are counted from one call of this function to the next. */
__attribute__((noinline)) static void qc_mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static int32_t run(qc_case *c)
{
    int8_t *y = (int8_t *)(result_buffer + GUARD);
    int32_t extent = c->result_bytes;
    if (c->x_offset >= 0) {
        const int32_t end = c->x_offset + c->bytes[0];
        extent = (end > extent) ? end : extent;
    }
    (void)memset(result_buffer, CANARY, (size_t)extent + (2u * GUARD));
    (void)memset(scratch_buffer, CANARY, (size_t)c->scratch_bytes + (2u * GUARD));
    if (c->x_offset >= 0) {
        (void)memcpy(y + c->x_offset, c->b[0], (size_t)c->bytes[0]);
        c->b[0] = y + c->x_offset;
    }
    next_scalar = 0;
    qc_mark();
    const int32_t status = run_op(c, y, scratch_buffer + GUARD);
    qc_mark();
    if (status != 0) {
        return status;
    }
    return (intact(result_buffer, extent) && intact(scratch_buffer, c->scratch_bytes)) ? 0 : 2;
}

int main(int argc, char **argv)
{
    static qc_case one;
#if defined(__arm__)
    const char *in = "cases.bin";
    const char *out = "results.bin";
    (void)argc;
    (void)argv;
#else
    const char *in = (argc > 1) ? argv[1] : "cases.bin";
    const char *out = (argc > 2) ? argv[2] : "results.bin";
#endif
    if (read_all(in, input) < 8) {
        return 10;
    }
    int32_t count;
    int32_t written = 0;
    const uint8_t *at = input + 8;
    (void)memcpy(&count, input, sizeof count);
    for (int32_t i = 0; i < count; i++) {
        at = parse(at, &one);
        const int32_t status = run(&one);
        const int32_t head[2] = {status, one.result_bytes};
        (void)memcpy(output + written, head, sizeof head);
        (void)memcpy(output + written + 8, result_buffer + GUARD, (size_t)one.result_bytes);
        written += 8 + ((one.result_bytes + 7) & ~7);
    }
    return (write_all(out, output, written) == 0) ? 0 : 11;
}
