// The CUDA driver (libcuda.so.1) of the null GPU: what Triton and PyTorch ask of it. Its launches are counted by runtime.cpp.

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "device.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

int launch() {
    static auto counted = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "null_launch"));
    return counted ? counted() : 0;
}

int hand_out(void** place) { return *place = calloc(1, 64), 0; }

}  // namespace

EXPORT int cuInit(unsigned) { return 0; }
EXPORT int cuDriverGetVersion(int* version) { return *version = CUDA_VERSION_SAID, 0; }
EXPORT int cuDeviceGetCount(int* count) { return *count = 1, 0; }
EXPORT int cuDeviceGet(int* device, int) { return *device = 0, 0; }
EXPORT int cuDeviceGetAttribute(int* value, int number, int) { return *value = attribute(number), 0; }
EXPORT int cuDeviceGetName(char* name, int size, int) { return strncpy(name, "Null H100", size), 0; }

EXPORT int cuCtxGetCurrent(void** context) {
    static char one[64];
    return *context = one, 0;
}
EXPORT int cuCtxGetDevice(int* device) { return *device = 0, 0; }
EXPORT int cuCtxSetCurrent(void*) { return 0; }
EXPORT int cuCtxGetLimit(size_t* value, int) { return *value = 0, 0; }
EXPORT int cuCtxSetLimit(int, size_t) { return 0; }
EXPORT int cuDevicePrimaryCtxRetain(void** context, int) { return cuCtxGetCurrent(context); }
EXPORT int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { return *flags = 0, *active = 1, 0; }

EXPORT int cuModuleLoad(void** module, const char*) { return hand_out(module); }
EXPORT int cuModuleLoadData(void** module, const void*) { return hand_out(module); }
EXPORT int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) { return hand_out(module); }
EXPORT int cuModuleUnload(void*) { return 0; }
EXPORT int cuModuleGetFunction(void** function, void*, const char*) { return hand_out(function); }
EXPORT int cuFuncGetAttribute(int* value, int number, void*) {
    constexpr int threads = 0, registers = 4;
    return *value = number == threads ? attribute(1) : number == registers ? 32 : 0, 0;
}
EXPORT int cuFuncSetAttribute(void*, int, int) { return 0; }
EXPORT int cuFuncSetCacheConfig(void*, int) { return 0; }
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return *blocks = 2, 0; }
EXPORT int cuOccupancyMaxActiveClusters(int* clusters, void*, void*) { return *clusters = 1, 0; }

EXPORT int cuLaunchKernel() { return launch(); }
EXPORT int cuLaunchKernelEx() { return launch(); }
EXPORT int cuLaunchCooperativeKernel() { return launch(); }
EXPORT int cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }

EXPORT int cuPointerGetAttribute(void* value, int number, unsigned long long pointer) {
    constexpr int memory_type = 2, device_pointer = 3, ordinal = 9, on_device = 2;
    auto said = static_cast<unsigned long long*>(value);
    *said = number == memory_type ? on_device : number == ordinal ? 0 : pointer;
    return (void)device_pointer, 0;
}
EXPORT int cuPointerGetAttributes(unsigned count, int* numbers, void** values, unsigned long long pointer) {
    for (unsigned i = 0; i < count; i++) cuPointerGetAttribute(values[i], numbers[i], pointer);
    return 0;
}
EXPORT int cuTensorMapEncodeTiled() { return 0; }
EXPORT int cuTensorMapEncodeIm2col() { return 0; }
EXPORT int cuLinkCreate_v2() { return 0; }
EXPORT int cuLinkAddData_v2() { return 0; }
EXPORT int cuLinkComplete() { return 0; }

EXPORT int cuGetErrorString(int, const char** text) { return *text = "the null GPU has no errors", 0; }
EXPORT int cuGetErrorName(int, const char** text) { return *text = "null", 0; }
EXPORT int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, void*) {
    return *function = dlsym(RTLD_DEFAULT, name), 0;
}
