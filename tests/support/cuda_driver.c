// A driver for tests: what libcuda.so.1 exports, as far as sessions call it. Device memory is host memory, kernels are
// given to a function of the test, launches between begin and end of a capture are kept for the graph.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 512
#define API __attribute__((visibility("default")))
typedef void (*Run)(const char *name, const unsigned *sizes, const void *parameters);
struct call { char name[256]; unsigned sizes[6]; char parameters[4096]; };

static Run run;
static int sizes_known, kept, capturing, free_bytes = 1 << 30, events;
static struct { char name[256]; int bytes; } structs[MOST];
static struct call calls[MOST];

// What the test says: who runs kernels, and the size of their parameters.
API void test_run_with(Run f) { run = f; }
API void test_parameters(const char *name, int bytes)
{
    snprintf(structs[sizes_known].name, sizeof structs[0].name, "%s", name);
    structs[sizes_known++].bytes = bytes;
}

API int cuInit(unsigned flags) { return flags != 0; }
API int cuDriverGetVersion(int *v) { return *v = 13000, 0; }
API int cuDeviceGetCount(int *n) { return *n = 1, 0; }
API int cuDeviceGet(int *device, int i) { return *device = i, 0; }
API int cuDeviceGetName(char *name, int size, int device) { return snprintf(name, size, "Stub %d", device), 0; }
API int cuDeviceGetAttribute(int *v, int what, int device)
{
    *v = what == 75 ? 8 : what == 76 ? 6 : what == 16 ? 2 : -1;  // compute capability 8.6, two multiprocessors
    return device != 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &run, device; }
API int cuCtxSetCurrent(void *context) { return context != &run; }
API int cuStreamCreate(void **stream, unsigned flags) { return *stream = calls, flags; }
API int cuStreamSynchronize(void *stream) { return stream != calls; }
API int cuMemGetInfo_v2(size_t *available, size_t *total) { return *available = free_bytes, *total = 1u << 31, 0; }
API int cuMemAlloc_v2(uint64_t *at, size_t size) { return *at = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256), 0; }
API int cuMemFree_v2(uint64_t at) { return free((void *)at), 0; }
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *stream) { return memcpy((void *)to, from, n), stream != calls; }
API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *stream) { return memcpy(to, (void *)from, n), stream != calls; }
API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *stream) { return memcpy((void *)to, (void *)from, n), stream != calls; }
API int cuModuleLoadData(void **module, const void *image) { return *module = structs, image == NULL; }
API int cuModuleUnload(void *module) { return module != structs; }
API int cuModuleGetFunction(void **function, void *module, const char *name) { return *function = strdup(name), module != structs; }
API int cuEventCreate(void **event, unsigned flags) { return *event = malloc(1), events++, flags; }
API int cuEventRecord(void *event, void *stream) { return event == NULL || stream != calls; }
API int cuEventSynchronize(void *event) { return event == NULL; }
API int cuEventElapsedTime(float *ms, void *begin, void *end) { return *ms = 2.0f, begin == end; }
API int cuEventElapsedTime_v2(float *ms, void *begin, void *end) { return cuEventElapsedTime(ms, begin, end); }
API int cuEventDestroy_v2(void *event) { return free(event), events--, 0; }
API int test_events(void) { return events; }

API int cuStreamBeginCapture_v2(void *stream, int mode) { return capturing = 1, kept = 0, stream != calls || mode != 1; }
API int cuStreamEndCapture(void *stream, void **graph) { return capturing = 0, *graph = &kept, stream != calls; }
API int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) { return *exec = graph, flags != 0; }
API int cuGraphLaunch(void *exec, void *stream)
{
    for (int i = 0; run != NULL && i < kept; i++)
        run(calls[i].name, calls[i].sizes, calls[i].parameters);
    return exec != &kept || stream != calls;
}

API int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                       void **parameters, void **extra)
{
    if (shared != 0 || stream != calls || extra != NULL || parameters == NULL)
        return 1;
    struct call *call = &calls[capturing ? kept++ : MOST - 1];
    snprintf(call->name, sizeof call->name, "%s", (const char *)function);
    memcpy(call->sizes, (unsigned[]){gx, gy, gz, bx, by, bz}, sizeof call->sizes);
    for (int i = 0; i < sizes_known; i++)
        if (strcmp(structs[i].name, call->name) == 0)
            memcpy(call->parameters, parameters[0], structs[i].bytes);
    if (!capturing && run != NULL)
        run(call->name, call->sizes, call->parameters);
    return 0;
}

// The bindings ask for functions by their names without versions.
API int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    char full[300];
    const char *ends[] = {"_v2", "", "WithFlags"};
    (void)version, (void)flags, *function = NULL;
    for (int i = strcmp(name, "cuGraphInstantiate") == 0 ? 2 : 0; i < 3 && *function == NULL; i++) {
        snprintf(full, sizeof full, "%s%s", name, ends[i]);
        *function = dlsym(RTLD_DEFAULT, full);
        if (*function == NULL) {
            Dl_info me;
            dladdr((void *)cuInit, &me);
            void *self = dlopen(me.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
            *function = dlsym(self, full);
        }
    }
    if (status != NULL)
        *status = *function == NULL;
    return *function == NULL ? 500 : 0;
}
API int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
