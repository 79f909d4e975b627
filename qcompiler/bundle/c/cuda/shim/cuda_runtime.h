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
} cudaError_t;
typedef struct shim_stream *cudaStream_t;
typedef struct shim_event {
    struct timespec at;
} cudaEvent_t;
enum { cudaMemcpyDefault = 4 };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
enum cudaMemoryType { cudaMemoryTypeDevice = 2, cudaMemoryTypeManaged = 3 };
struct cudaPointerAttributes {
    enum cudaMemoryType type;
    int device;
};

static inline cudaError_t cudaGetLastError() { return cudaSuccess; }
static inline cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
static inline cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *) {
    return *found = {cudaMemoryTypeDevice, 0}, cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **memory, size_t bytes) {
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaFree(void *memory) { return free(memory), cudaSuccess; }
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, int) {
    return memcpy(to, from, bytes), cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t) {
    return memcpy(to, from, bytes), cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
    return memset(to, value, bytes), cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaEventCreate(cudaEvent_t *event) { return *event = {}, cudaSuccess; }
static inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
#define cudaEventRecord(event, stream) clock_gettime(CLOCK_MONOTONIC, &(event).at)
static inline cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t a, cudaEvent_t b) {
    *milliseconds = (float)(b.at.tv_sec - a.at.tv_sec) * 1e3f + (float)(b.at.tv_nsec - a.at.tv_nsec) * 1e-6f;
    return cudaSuccess;
}

/* The processor can be any device. */
static inline cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr, int) {
    return *value = 0, cudaSuccess;
}

#endif
