// The CUDA runtime, cuBLAS and cuDNN of a GPU whose kernels do nothing. Loaded before the real libraries (LD_PRELOAD).
//
// Memory is the machine's own: allocations are real addresses, copies and fills between kernels really happen. Launches
// return at once and are counted; within a capture they become nodes of a graph. Every function that PyTorch imports and
// that is not here is made by build.py: it returns 0, success, and does nothing.

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "device.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// What null_counts() gives, in this order; nullgpu.py has their names.
struct Counts {
    unsigned long long launches, copies, waits, captures, graph_launches, allocations, nodes, copies_to_host;
};
Counts counts;

struct Capture {
    bool active;
    cudaStream_t stream;
    unsigned long long id, nodes;
};
Capture capture;

std::mutex guard;
std::map<char*, size_t> allocated;

void launch() {
    if (capture.active) {
        capture.nodes++;
        counts.nodes++;
    } else {
        counts.launches++;
    }
}

void* allocate(size_t size) {
    size = size ? size : 1;
    // Without MAP_NORESERVE 80 GB would not fit into the machine's memory; untouched pages take none.
    void* place = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    std::lock_guard<std::mutex> lock(guard);
    counts.allocations++;
    allocated[static_cast<char*>(place)] = size;
    return place;
}

void release(void* place) {
    std::lock_guard<std::mutex> lock(guard);
    auto found = allocated.find(static_cast<char*>(place));
    if (found == allocated.end()) return;
    munmap(place, found->second);
    allocated.erase(found);
}

bool on_device(const void* pointer) {
    std::lock_guard<std::mutex> lock(guard);
    auto place = static_cast<char*>(const_cast<void*>(pointer));
    auto next = allocated.upper_bound(place);
    if (next == allocated.begin()) return false;
    --next;
    return place < next->first + next->second;
}

// What a library hands out as a stream, an event or a descriptor: an address of its own.
template <typename T>
T handle() {
    return static_cast<T>(calloc(1, 64));
}

}  // namespace

EXPORT void null_counts(Counts* out) { *out = counts; }
EXPORT int null_launch() { return launch(), 0; }  // for the driver's half, which Triton calls

// --- the device ---------------------------------------------------------------------------------------------------

EXPORT cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
EXPORT cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
EXPORT cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDA_VERSION_SAID, cudaSuccess; }
EXPORT cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDA_VERSION_SAID, cudaSuccess; }
EXPORT cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
EXPORT cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr number, int) {
    return *value = attribute(number), cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int) {
    return snprintf(text, size, "0000:01:00.0"), cudaSuccess;
}
EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp* device, int) {
    memset(device, 0, sizeof *device);
    strcpy(device->name, "Null H100");
    device->totalGlobalMem = MEMORY;
    device->major = attribute(75);
    device->minor = attribute(76);
    device->multiProcessorCount = attribute(16);
    device->warpSize = attribute(10);
    device->sharedMemPerBlock = attribute(8);
    device->sharedMemPerBlockOptin = attribute(97);
    device->sharedMemPerMultiprocessor = attribute(81);
    device->regsPerBlock = attribute(12);
    device->regsPerMultiprocessor = attribute(82);
    device->maxThreadsPerBlock = attribute(1);
    device->maxThreadsPerMultiProcessor = attribute(39);
    for (int axis = 0; axis < 3; axis++) {
        device->maxThreadsDim[axis] = attribute(2 + axis);
        device->maxGridSize[axis] = attribute(5 + axis);
    }
    device->l2CacheSize = attribute(38);
    device->memoryBusWidth = attribute(37);
    return cudaSuccess;
}

// --- memory -------------------------------------------------------------------------------------------------------

EXPORT cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    return *total = MEMORY, *free = MEMORY - (1ull << 30), cudaSuccess;
}
EXPORT cudaError_t cudaMalloc(void** place, size_t size) { return *place = allocate(size), cudaSuccess; }
EXPORT cudaError_t cudaMallocAsync(void** place, size_t size, cudaStream_t) { return cudaMalloc(place, size); }
EXPORT cudaError_t cudaFree(void* place) { return release(place), cudaSuccess; }
EXPORT cudaError_t cudaFreeAsync(void* place, cudaStream_t) { return cudaFree(place); }
EXPORT cudaError_t cudaMallocHost(void** place, size_t size) { return *place = malloc(size), cudaSuccess; }
EXPORT cudaError_t cudaHostAlloc(void** place, size_t size, unsigned) { return cudaMallocHost(place, size); }
EXPORT cudaError_t cudaFreeHost(void* place) { return free(place), cudaSuccess; }
EXPORT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
    return *static_cast<unsigned long long*>(value) = 0, cudaSuccess;
}
EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* said, const void* pointer) {
    memset(said, 0, sizeof *said);
    bool device = on_device(pointer);
    said->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    said->devicePointer = device ? const_cast<void*>(pointer) : nullptr;
    said->hostPointer = const_cast<void*>(pointer);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    if (capture.active) return launch(), cudaSuccess;
    counts.copies++;
    if (kind == cudaMemcpyDeviceToHost || (kind == cudaMemcpyDefault && !on_device(to))) counts.copies_to_host++;
    return memmove(to, from, size), cudaSuccess;
}
EXPORT cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
    return counts.waits++, memmove(to, from, size), cudaSuccess;
}
EXPORT cudaError_t cudaMemset(void* to, int value, size_t size) { return memset(to, value, size), cudaSuccess; }
EXPORT cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t) {
    if (!capture.active) memset(to, value, size);
    return launch(), cudaSuccess;
}
EXPORT cudaError_t cudaGetSymbolAddress(void** place, const void*) {
    static char symbols[1 << 20];
    return *place = symbols, cudaSuccess;
}

// --- kernels ------------------------------------------------------------------------------------------------------

EXPORT cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
    return launch(), cudaSuccess;
}
EXPORT int __cudaLaunchKernel(void*, dim3, dim3, void**, size_t, void*) { return launch(), 0; }
EXPORT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) {
    return launch(), cudaSuccess;
}
EXPORT int __cudaGetKernel(void** kernel, const void* function) { return *kernel = const_cast<void*>(function), 0; }
EXPORT unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, void*) { return 0; }
EXPORT int __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
    *grid = *block = dim3{1, 1, 1};
    *shared = 0;
    *static_cast<void**>(stream) = nullptr;
    return 0;
}
EXPORT void** __cudaRegisterFatBinary(void*) {
    static void* binary[4];
    return binary;
}
EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
EXPORT void __cudaUnregisterFatBinary(void**) {}
EXPORT void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*, void*, int*) {}
EXPORT void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
EXPORT cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* said, const void*) {
    memset(said, 0, sizeof *said);
    said->maxThreadsPerBlock = attribute(1);
    said->numRegs = 32;
    said->binaryVersion = said->ptxVersion = 10 * attribute(75);
    return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
    return *blocks = 2, cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t,
                                                                          unsigned) {
    return *blocks = 2, cudaSuccess;
}
EXPORT const char* cudaGetErrorString(cudaError_t) { return "the null GPU has no errors"; }
EXPORT const char* cudaGetErrorName(cudaError_t) { return "null"; }

// --- streams, events, waiting -------------------------------------------------------------------------------------

EXPORT cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = handle<cudaStream_t>(), cudaSuccess; }
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
    return cudaStreamCreate(stream);
}
EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
EXPORT cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return *least = 0, *greatest = -5, cudaSuccess;
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = handle<cudaEvent_t>(), cudaSuccess; }
EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
EXPORT cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    return *milliseconds = 25, cudaSuccess;  // so long that Inductor tries each kernel a few times, not 100
}
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t) { return counts.waits++, cudaSuccess; }
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t) { return counts.waits++, cudaSuccess; }
EXPORT cudaError_t cudaDeviceSynchronize() { return counts.waits++, cudaSuccess; }

// --- graphs -------------------------------------------------------------------------------------------------------

namespace {
cudaStreamCaptureStatus status(cudaStream_t stream) {
    return capture.active && stream == capture.stream ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
}
}  // namespace

EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    counts.captures++;
    capture = {true, stream, capture.id + 1, 0};
    return cudaSuccess;
}
EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
    capture.active = false;
    *graph = handle<cudaGraph_t>();
    *reinterpret_cast<unsigned long long*>(*graph) = capture.nodes;
    return cudaSuccess;
}
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* said) {
    return *said = status(stream), cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* said, unsigned long long* id,
                                            cudaGraph_t* graph, const cudaGraphNode_t** nodes,
                                            const cudaGraphEdgeData** edges, size_t* count) {
    static unsigned long long unfinished[8];
    if (said) *said = status(stream);
    if (id) *id = capture.id;
    if (graph) *graph = reinterpret_cast<cudaGraph_t>(unfinished);
    if (nodes) *nodes = nullptr;
    if (edges) *edges = nullptr;
    if (count) *count = 0;
    return cudaSuccess;
}
EXPORT cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
    return *count = *reinterpret_cast<unsigned long long*>(graph), cudaSuccess;
}
EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t, unsigned long long) {
    return *ready = handle<cudaGraphExec_t>(), cudaSuccess;
}
EXPORT cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiate(ready, graph, flags);
}
EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return counts.graph_launches++, cudaSuccess; }

// --- the driver's functions, which PyTorch asks the runtime for ------------------------------------------------------

EXPORT cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                                    cudaDriverEntryPointQueryResult* found) {
    static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    *function = driver ? dlsym(driver, name) : nullptr;
    if (found) *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

// --- cuBLAS: products are launches ----------------------------------------------------------------------------------

EXPORT int cublasCreate_v2(void** library) { return *library = handle<void*>(), 0; }
EXPORT int cublasLtCreate(void** library) { return *library = handle<void*>(), 0; }
EXPORT int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, 0; }
EXPORT int cublasGetMathMode(void*, int* mode) { return *mode = 0, 0; }
EXPORT int cublasGetStream_v2(void*, void** stream) { return *stream = nullptr, 0; }
EXPORT int cublasGemmEx(void*) { return launch(), 0; }
EXPORT int cublasSgemm_v2(void*) { return launch(), 0; }
EXPORT int cublasGemmStridedBatchedEx(void*) { return launch(), 0; }
EXPORT int cublasSgemmStridedBatched(void*) { return launch(), 0; }
EXPORT int cublasLtMatmul(void*) { return launch(), 0; }
EXPORT int cublasLtMatmulDescCreate(void** said, int, int) { return *said = handle<void*>(), 0; }
EXPORT int cublasLtMatrixLayoutCreate(void** said, int, unsigned long, unsigned long, long) {
    return *said = handle<void*>(), 0;
}
EXPORT int cublasLtMatmulPreferenceCreate(void** said) { return *said = handle<void*>(), 0; }
EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* result, int* n) {
    constexpr size_t heuristic = 96;  // bytes of a cublasLtMatmulHeuristicResult_t
    return memset(result, 0, heuristic), *n = 1, 0;
}

// --- cuDNN: it has no engines; nullgpu.py stands in for its operators -------------------------------------------------

EXPORT size_t cudnnGetVersion() { return 92600; }
EXPORT size_t cudnnGetCudartVersion() { return CUDA_VERSION_SAID; }
EXPORT int cudnnCreate(void** library) { return *library = handle<void*>(), 0; }
EXPORT const char* cudnnGetErrorString(int) { return "the null GPU has no errors"; }
