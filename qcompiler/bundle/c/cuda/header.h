/*
 * The compiled network @name@ for NVIDIA's devices: @summary@.
 *
 * All functions work on the device that is current in the calling thread. Inputs and outputs are pointers to memory of
 * the host or of that device; the workspace is memory of the device. Calls with different workspaces and outputs may
 * run at the same time, on different streams. Every function returns a status.
 *
 * Link with lib@name@.so. It holds all code: no compiler, and no library but the device's driver, is needed.
 */
#ifndef QCOMPILER_@NAME@_H
#define QCOMPILER_@NAME@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the workspace, and the alignment of its address, which cudaMalloc gives. */
#define @NAME@_WORKSPACE_SIZE @workspace_size@
#define @NAME@_ALIGNMENT 64

#define @NAME@_INPUTS @inputs@
#define @NAME@_OUTPUTS @outputs@
#define @NAME@_STEPS @steps@
#define @NAME@_VARIANTS @variants@

/* Whether a batch of `count` times as many rows as the shapes say is what @name@_run_batch computes. */
#define @NAME@_ANY_BATCH @any_batch@

@tensors@
typedef enum {
    @NAME@_OK = 0,
    @NAME@_ERROR_NULL = 1,         /* a pointer is null */
    @NAME@_ERROR_ALIGNMENT = 2,    /* the workspace is not aligned to @NAME@_ALIGNMENT bytes, or an array not to its elements */
    @NAME@_ERROR_WORKSPACE = 3,    /* the workspace is smaller than @NAME@_WORKSPACE_SIZE */
    @NAME@_ERROR_PLACE = 4,        /* the workspace, or a pointer of a device, is not memory of the current device */
    @NAME@_ERROR_ARCHITECTURE = 5, /* the library holds no code for the current device */
    @NAME@_ERROR_RANGE = 6,        /* a step, variant or batch is out of range */
    @NAME@_ERROR_MEMORY = 7,       /* the device has not enough memory */
    @NAME@_ERROR_DEVICE = 8,       /* there is no device, or no driver that knows it */
    @NAME@_ERROR_KERNEL = 9,       /* a kernel failed: a fault of the compiler */
    @NAME@_ERROR_INDEX = 10,       /* an index among the data of this run lies outside of its axis */
    @NAME@_ERROR_DIVISION = 11     /* an integer among the data of this run is divided by zero */
} @name@_status;

@tensor@

/* Copy the weights into the memory of the current device, where they stay. The first run does it otherwise. */
int @name@_prepare(void);

/* Free the weights on the current device. No run may be under way. */
int @name@_release(void);

/* Run the network and wait for it. inputs[@NAME@_INPUTS] and outputs[@NAME@_OUTPUTS] are in the order above. */
int @name@_run(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size);

/* Run the network `count` times: every input and output has `count` arrays, one behind the other. As many runs are launched
 * together, each step once for all of them, as the workspace has room for: all where it has `count` times
 * @NAME@_WORKSPACE_SIZE bytes. 0 does nothing. */
int @name@_run_batch(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     size_t count);

/* Start a run on a stream (a cudaStream_t), and do not wait for it. After @name@_prepare, and with inputs and outputs in
 * memory of the device, it can be captured in a CUDA graph. */
int @name@_enqueue(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                   void *stream);
int @name@_enqueue_batch(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                         size_t count, void *stream);

/* Record a run as a CUDA graph, and run nothing. Inputs and outputs must be memory of the device; with the workspace,
 * they belong to the graph until it is discarded. */
int @name@_capture(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                   void **graph);
int @name@_capture_batch(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                         size_t count, void **graph);

/* Start the run of a graph on a stream, as one piece of work, and do not wait for it. */
int @name@_replay(void *graph, void *stream);

/* Free a graph, no run of which may be under way. */
int @name@_discard(void *graph);

/* Wait for the last run that was started on a stream with a workspace; its status. */
int @name@_wait(const void *workspace, void *stream);

/* Run the steps first .. last - 1 only, and wait. The workspace, the inputs and the outputs carry the values between
 * calls. */
int @name@_run_steps(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     int first, int last);

/* Run the network and store what each step took in nanoseconds[@NAME@_STEPS]. */
int @name@_run_profile(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                       uint64_t *nanoseconds);
int @name@_run_batch_profile(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                             size_t count, uint64_t *nanoseconds);

/* Memory of the current device, for callers that do not link the CUDA runtime; copies go in any direction. */
int @name@_allocate(size_t bytes, void **memory);
int @name@_free(void *memory);
int @name@_copy(void *to, const void *from, size_t bytes);

/* The variant that runs use on the current device: 0 .. @NAME@_VARIANTS - 1, or -1 where none has code for it. */
int @name@_variant(void);

@names@

#ifdef __cplusplus
}
#endif

#endif
