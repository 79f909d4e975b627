/* What the sources of a compiled network for NVIDIA's devices share; see ../internal.h. */
#ifndef INTERNALS_OF_QCOMPILER
#define INTERNALS_OF_QCOMPILER

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "this-network.h"
#pragma GCC visibility pop

#include "instructions.h"

/* Whether code for one device runs on all, as it does where the processor stands for them. */
#ifndef ANY_DEVICE
#define ANY_DEVICE 0
#endif

/* Of runs that are launched together: what each has of its own lies one behind the other, in inputs and outputs as in the
 * workspace. faults: an int32 of every step that the data of a run can make fail, in memory of the device. */
struct memory {
    const void *inputs[LIMIT(INPUTS)];
    void *outputs[LIMIT(OUTPUTS)];
    unsigned char *workspace;
    const unsigned char *constants;
    int32_t *faults;
    size_t runs;
};

/* Starts the kernels of one step, or a copy. */
typedef cudaError_t step_function(const struct memory *memory, cudaStream_t stream);

/* Code for devices of compute capability `major`.`minor`, and later ones of the same `major` unless `exact`. */
struct variant {
    const char *name;
    int major, minor, exact;
    step_function *const *steps;
};

/* A pointer to whatever a kernel's parameter points to. */
struct pointer {
    const void *address;
    template <typename T> operator T *() const { return (T *)const_cast<void *>(address); }
};

/* The blocks that compute so many rows; see `Rows` in qcompiler/ir/program.py. */
static inline unsigned blocks_of(size_t rows, size_t tile, size_t columns, size_t share) {
    return (unsigned)(((rows + tile - 1) / tile * columns + share - 1) / share);
}

/* The status of a run in which `step` failed with `error`. */
#define STEP_STATUS(step, error) (((step) + 1) * 256 + (error))

/* Generated tables. */
extern const struct variant API(internal_variants)[LIMIT(VARIANTS)];
extern const TENSOR API(internal_inputs)[LIMIT(INPUTS)];
extern const TENSOR API(internal_outputs)[LIMIT(OUTPUTS)];
extern const unsigned char API(internal_input_sizes)[LIMIT(INPUTS)];
extern const unsigned char API(internal_output_sizes)[LIMIT(OUTPUTS)];
extern const char *const API(internal_step_names)[LIMIT(STEPS)];

/* The steps that leave faults, by number, and the bytes of all of these, with which the workspace begins. */
extern const int API(internal_fault_count);
extern const int API(internal_fault_steps)[];
extern const size_t API(internal_fault_bytes);

/* So many runs can be launched together. */
extern const size_t API(internal_most_runs);

/* What the status of a failed step means, where the data of the run can make it fail; else a null pointer. */
const char *API(internal_fault_text)(int status);

/* The weights, as they are copied to the device. */
extern "C" const unsigned char API(internal_constants)[];
extern "C" const unsigned char API(internal_constants_end)[];

#endif
