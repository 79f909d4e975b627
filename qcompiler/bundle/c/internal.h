/* What the sources of a compiled network share. this-network.h is generated: it includes the public header and defines
 * API(x), the public name of x, LIMIT(x), the public constant x, and TENSOR, STATUS and POOL, the public types. */
#ifndef INTERNALS_OF_QCOMPILER
#define INTERNALS_OF_QCOMPILER

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "this-network.h"
#pragma GCC visibility pop

#include "this-cpu.h"

/* Of functions that several others end with: copies in each of them would be a tenth of a small library. */
#define ONE_COPY __attribute__((noinline))

struct memory {
    const void *const *inputs;
    void *const *outputs;
    unsigned char *workspace;
};

/* One kernel call, on the work items [begin, end) of range(items); the result is an error of the public header. */
struct step {
    int32_t (*call)(const struct memory *memory, int32_t begin, int32_t end);
    int32_t items;
};

struct variant {
    const char *name;
    uint64_t features;
    const struct step *steps;
};

/* One run. `meet` waits until every thread of the run has arrived; it is null on one thread. `failed` is the status of
 * the first step that failed. */
struct job {
    struct memory memory;
    const struct step *steps;
    uint64_t *nanoseconds;
    void (*meet)(struct job *job);
    int first, last, parts;
    atomic_int failed;
};

/* The status of a run in which `step` failed with `error`. */
#define STEP_STATUS(step, error) (((step) + 1) * 256 + (error))

/* Generated tables. */
extern const unsigned char API(internal_constants)[];
extern const struct variant API(internal_variants)[LIMIT(VARIANTS)];
extern const TENSOR API(internal_inputs)[LIMIT(INPUTS)];
extern const TENSOR API(internal_outputs)[LIMIT(OUTPUTS)];

/* Bytes of an element of each, to whose multiples arrays are aligned. */
extern const unsigned char API(internal_input_sizes)[LIMIT(INPUTS)];
extern const unsigned char API(internal_output_sizes)[LIMIT(OUTPUTS)];

extern const char *const API(internal_step_names)[LIMIT(STEPS)];

/* What the status of a failed step means, where the data of the run can make it fail; else a null pointer. */
const char *API(internal_fault_text)(int status);

/* The CPU_... features that this machine has and its system has enabled, of those that any variant needs. */
uint64_t API(internal_cpu_features)(void);

int API(internal_prepare)(struct job *job, const void *const *inputs, void *const *outputs, void *workspace,
                          size_t workspace_size);
void API(internal_execute)(struct job *job, int part);
int API(internal_failed)(struct job *job);

/* One run of a batch; the pool is null where there is none. */
typedef int run_function(void *pool, const void *const *inputs, void *const *outputs, void *workspace,
                         size_t workspace_size);
int API(internal_batch)(run_function *one, void *pool, const void *const *inputs, void *const *outputs,
                        void *workspace, size_t workspace_size, size_t count);

#endif
