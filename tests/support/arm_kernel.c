/* Calls one kernel compiled by TVM for Arm under an emulator: reads its tensors from a file, writes the last one.
 * The runtime functions that generated code may call are here, so that no TVM library is needed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

int __tvm_ffi_kernel(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result);

void *TVMBackendAllocWorkspace(int type, int id, uint64_t bytes, int code, int bits)
{
    (void)type, (void)id, (void)code, (void)bits;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}
int TVMBackendFreeWorkspace(int type, int id, void *pointer)
{
    (void)type, (void)id;
    free(pointer);
    return 0;
}
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message)
{
    fprintf(stderr, "%s: %s\n", kind, message);
}
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count)
{
    fprintf(stderr, "%s: ", kind);
    for (int32_t i = 0; i < count; i++) {
        fputs(parts[i] != NULL ? parts[i] : "", stderr);
    }
    fputc('\n', stderr);
}

static int64_t word(FILE *file)
{
    int64_t value = 0;
    if (fread(&value, sizeof value, 1, file) != 1) {
        exit(3);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    FILE *file = fopen(argv[1], "rb");
    const int32_t count = (int32_t)word(file);
    TVMFFIAny *args = calloc((size_t)count, sizeof *args);
    DLTensor *tensors = calloc((size_t)count, sizeof *tensors);
    size_t bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        DLTensor *t = &tensors[i];
        t->device.device_type = kDLCPU;
        t->dtype.code = (uint8_t)word(file);
        t->dtype.bits = (uint8_t)word(file);
        t->dtype.lanes = 1;
        t->ndim = (int32_t)word(file);
        t->shape = calloc((size_t)t->ndim, sizeof *t->shape);
        bytes = t->dtype.bits / 8;
        for (int32_t d = 0; d < t->ndim; d++) {
            t->shape[d] = word(file);
            bytes *= (size_t)t->shape[d];
        }
        t->data = aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (fread(t->data, 1, bytes, file) != bytes) {
            return 3;
        }
        args[i].type_index = kTVMFFIDLTensorPtr;
        args[i].v_ptr = t;
    }
    fclose(file);
    TVMFFIAny result;
    memset(&result, 0, sizeof result);
    if (__tvm_ffi_kernel(NULL, args, count, &result) != 0) {
        return 4;
    }
    file = fopen(argv[2], "wb");
    fwrite(tensors[count - 1].data, 1, bytes, file);
    fclose(file);
    return 0;
}
