/* Stands for CUDA's header of this name where kernels run on the processor: its memory is the device's, and every launch
 * is over when it returns. Only what runtime.cpp and the generated sources call is here. */
#ifndef SHIM_OF_CUDA_RUNTIME
#define SHIM_OF_CUDA_RUNTIME

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.h"

typedef enum {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorStreamCaptureUnsupported = 900,
} cudaError_t;
typedef struct shim_stream *cudaStream_t;
typedef struct shim_graph *cudaGraph_t, *cudaGraphExec_t;
typedef struct shim_event {
    struct timespec at;
} cudaEvent_t;
enum { cudaMemcpyDefault = 4, cudaStreamNonBlocking = 1, cudaStreamCaptureModeThreadLocal = 1 };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
    enum cudaMemoryType type;
    int device;
};

/* Gives the error that the function is to give, if any. */
#define SHIM_CALL(forbidden) \
    if (cudaError_t error = (cudaError_t)shim_answer(__func__, forbidden)) return error

static inline cudaError_t cudaGetLastError() { return (cudaError_t)shim_forget(); }
static inline cudaError_t cudaGetDevice(int *device) {
    SHIM_CALL(0);
    return *device = 0, cudaSuccess;
}
static inline cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
    SHIM_CALL(0);
    int type = cudaMemoryTypeDevice;
    shim_place_of(pointer, &type, &found->device);
    return found->type = (enum cudaMemoryType)type, cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **memory, size_t bytes) {
    SHIM_CALL(1);
    if (shim_lacks(bytes, cudaErrorMemoryAllocation)) return cudaErrorMemoryAllocation;
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaFree(void *memory) { return free(memory), cudaSuccess; }
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, int) {
    SHIM_CALL(1);
    return memcpy(to, from, bytes), cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t) {
    SHIM_CALL(0);
    return shim_do([=] { memcpy(to, from, bytes); }), cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
    SHIM_CALL(0);
    return shim_do([=] { memset(to, value, bytes); }), cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    SHIM_CALL(1);
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    SHIM_CALL(0);
    return *stream = nullptr, cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamBeginCapture(cudaStream_t, int) {
    SHIM_CALL(0);
    return shim_record(), cudaSuccess;
}
static inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
    *graph = shim_recorded();
    SHIM_CALL(0);
    return cudaSuccess;
}
static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long) {
    SHIM_CALL(0);
    return *ready = shim_copy(graph), cudaSuccess;
}
static inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return shim_discard(graph), cudaSuccess; }
static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return shim_discard(graph), cudaSuccess; }
static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
    SHIM_CALL(0);
    return shim_replay(graph), cudaSuccess;
}
static inline cudaError_t cudaEventCreate(cudaEvent_t *event) {
    SHIM_CALL(0);
    return *event = {}, cudaSuccess;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
#define cudaEventRecord(event, stream) clock_gettime(CLOCK_MONOTONIC, &(event).at)
static inline cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t a, cudaEvent_t b) {
    *milliseconds = (float)(b.at.tv_sec - a.at.tv_sec) * 1e3f + (float)(b.at.tv_nsec - a.at.tv_nsec) * 1e-6f;
    return cudaSuccess;
}

static inline cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int) {
    SHIM_CALL(0);
    return *value = shim_capability_of(which == cudaDevAttrComputeCapabilityMinor), cudaSuccess;
}

#endif
