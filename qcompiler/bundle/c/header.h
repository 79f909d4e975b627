/*
 * The compiled network @name@: @summary@.
 *
 * Nothing is allocated and nothing is kept between calls: inputs, outputs and the workspace belong to the caller, and
 * calls with different workspaces and outputs may run at the same time. Every function returns a status@library@
 */
#ifndef QCOMPILER_@NAME@_H
#define QCOMPILER_@NAME@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the workspace, and the alignment of its address. Inputs and outputs are aligned as C aligns their elements. */
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
    @NAME@_ERROR_OVERLAP = 4,      /* an output or the workspace overlaps another buffer */
    @NAME@_ERROR_CPU = 5,          /* the CPU has none of the instruction sets of this library */
    @NAME@_ERROR_RANGE = 6,        /* a step, variant, thread count or batch is out of range */
    @NAME@_ERROR_THREADS = 7,      /* the system refused to start a thread */
    @NAME@_ERROR_POOL = 8,         /* the pool is not started, or already stopped */
    @NAME@_ERROR_KERNEL = 9,       /* a kernel failed: a fault of the compiler */
    @NAME@_ERROR_INDEX = 10,       /* an index among the data of this run lies outside of its axis */
    @NAME@_ERROR_DIVISION = 11     /* an integer among the data of this run is divided by zero */
} @name@_status;

@tensor@

/* Run the network on one thread. inputs[@NAME@_INPUTS] and outputs[@NAME@_OUTPUTS] are in the order above. */
int @name@_run(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size);

/* Run the network `count` times on one thread: every input and output has `count` arrays, one behind the other. A run that
 * fails ends it. */
int @name@_run_batch(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     size_t count);

/* Run the steps first .. last - 1 only. The workspace, the inputs and the outputs carry the values between calls. */
int @name@_run_steps(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     int first, int last);

/* Run the network and store what each step took in nanoseconds[@NAME@_STEPS]: 0 where the library has no clock. */
int @name@_run_profile(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                       uint64_t *nanoseconds);

@threads@
/* The instruction-set variant that runs use: 0 .. @NAME@_VARIANTS - 1, or -1 where the CPU supports none. */
int @name@_variant(void);

@names@

#ifdef __cplusplus
}
#endif

#endif
