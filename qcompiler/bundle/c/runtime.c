/* Runs the steps of a compiled network on one thread, or as one part of several. */
#define _POSIX_C_SOURCE 200809L

#include "all-internals.h"

#ifndef CPU_WITHOUT_CLOCK
#include <time.h>
#endif

static int misaligned(const void *pointer, size_t alignment) {
    return (uintptr_t)pointer % alignment != 0;
}

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

/* Of arrays that hold the elements of `count` runs. */
static int written_overlaps(const void *const *inputs, void *const *outputs, const void *workspace, size_t size,
                            size_t count) {
    for (int i = 0; i < LIMIT(INPUTS); i++)
        if (overlap(inputs[i], API(internal_inputs)[i].bytes * count, workspace, size)) return 1;
    for (int o = 0; o < LIMIT(OUTPUTS); o++) {
        size_t bytes = API(internal_outputs)[o].bytes * count;
        if (overlap(outputs[o], bytes, workspace, size)) return 1;
        for (int i = 0; i < LIMIT(INPUTS); i++)
            if (overlap(outputs[o], bytes, inputs[i], API(internal_inputs)[i].bytes * count)) return 1;
        for (int other = 0; other < o; other++)
            if (overlap(outputs[o], bytes, outputs[other], API(internal_outputs)[other].bytes * count)) return 1;
    }
    return 0;
}

/* Whether memory can hold the elements of `count` runs; found without a division, which some processors lack. */
static int holds(size_t count) {
    size_t bytes;
    for (int i = 0; i < LIMIT(INPUTS); i++)
        if (__builtin_mul_overflow(API(internal_inputs)[i].bytes, count, &bytes)) return 0;
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        if (__builtin_mul_overflow(API(internal_outputs)[o].bytes, count, &bytes)) return 0;
    return 1;
}

static int check_pointers(const void *const *inputs, void *const *outputs, const void *workspace, size_t size,
                          size_t count) {
    if (!inputs || !outputs || !workspace) return LIMIT(ERROR_NULL);
    for (int i = 0; i < LIMIT(INPUTS); i++)
        if (!inputs[i]) return LIMIT(ERROR_NULL);
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        if (!outputs[o]) return LIMIT(ERROR_NULL);
    for (int i = 0; i < LIMIT(INPUTS); i++)
        if (misaligned(inputs[i], API(internal_input_sizes)[i])) return LIMIT(ERROR_ALIGNMENT);
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        if (misaligned(outputs[o], API(internal_output_sizes)[o])) return LIMIT(ERROR_ALIGNMENT);
    if (misaligned(workspace, LIMIT(ALIGNMENT))) return LIMIT(ERROR_ALIGNMENT);
    if (size < LIMIT(WORKSPACE_SIZE)) return LIMIT(ERROR_WORKSPACE);
    if (!holds(count)) return LIMIT(ERROR_RANGE);
    if (written_overlaps(inputs, outputs, workspace, LIMIT(WORKSPACE_SIZE), count)) return LIMIT(ERROR_OVERLAP);
    return LIMIT(OK);
}

int API(internal_prepare)(struct job *job, const void *const *inputs, void *const *outputs, void *workspace,
                          size_t workspace_size) {
    int status = check_pointers(inputs, outputs, workspace, workspace_size, 1);
    if (status != LIMIT(OK)) return status;
    int variant = API(variant)();
    if (variant < 0) return LIMIT(ERROR_CPU);
    job->steps = API(internal_variants)[variant].steps;
    job->nanoseconds = NULL;
    job->meet = NULL;
    job->first = 0;
    job->last = LIMIT(STEPS);
    job->parts = 1;
    atomic_store_explicit(&job->failed, LIMIT(OK), memory_order_relaxed);
    job->memory = (struct memory){inputs, outputs, workspace};
    return LIMIT(OK);
}

static uint64_t now(void) {
#ifdef CPU_WITHOUT_CLOCK
    return 0;
#else
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
#endif
}

/* The first of `items` items of a part: items * part / parts, without 64-bit division, which 32-bit processors lack. */
static int32_t share(int32_t items, int part, int parts) {
    return items / parts * part + items % parts * part / parts;
}

int API(internal_failed)(struct job *job) {
    return atomic_load_explicit(&job->failed, memory_order_relaxed);
}

/* The first failure of a run stays: steps behind a failed one do not run, so it is one of the same step. */
static void fail(struct job *job, int step, int32_t error) {
    int none = LIMIT(OK), known = error == LIMIT(ERROR_INDEX) || error == LIMIT(ERROR_DIVISION);
    int status = STEP_STATUS(step, known ? error : LIMIT(ERROR_KERNEL));
#ifdef CPU_WITHOUT_THREADS
    if (API(internal_failed)(job) == none) atomic_store_explicit(&job->failed, status, memory_order_relaxed);
#else
    atomic_compare_exchange_strong_explicit(&job->failed, &none, status, memory_order_relaxed, memory_order_relaxed);
#endif
}

static void execute_step(struct job *job, int index, int part) {
    const struct step *step = &job->steps[index];
    int32_t begin = share(step->items, part, job->parts), end = share(step->items, part + 1, job->parts);
    if (begin >= end || API(internal_failed)(job)) return;
    int32_t error = step->call(&job->memory, begin, end);
    if (error) fail(job, index, error);
}

/* Every part comes to every step, and does its share of the step's items unless an earlier step failed. After the last
 * meeting the job may be the next run's already, so nothing of it is read there. */
void API(internal_execute)(struct job *job, int part) {
    uint64_t *nanoseconds = part == 0 ? job->nanoseconds : NULL;
    int last = job->last;
    for (int index = job->first; index < last; index++) {
        uint64_t start = nanoseconds ? now() : 0;
        execute_step(job, index, part);
        if (job->meet) job->meet(job);
        if (nanoseconds) nanoseconds[index] = now() - start;
    }
}

ONE_COPY static int run(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                        int first, int last, uint64_t *nanoseconds) {
    struct job job;
    int status = API(internal_prepare)(&job, inputs, outputs, workspace, workspace_size);
    if (status != LIMIT(OK)) return status;
    job.first = first;
    job.last = last;
    job.nanoseconds = nanoseconds;
    API(internal_execute)(&job, 0);
    return API(internal_failed)(&job);
}

int API(run)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size) {
    return run(inputs, outputs, workspace, workspace_size, 0, LIMIT(STEPS), NULL);
}

int API(run_steps)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                   int first, int last) {
    if (first < 0 || last < first || last > LIMIT(STEPS)) return LIMIT(ERROR_RANGE);
    return run(inputs, outputs, workspace, workspace_size, first, last, NULL);
}

int API(run_profile)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     uint64_t *nanoseconds) {
    if (!nanoseconds) return LIMIT(ERROR_NULL);
    return run(inputs, outputs, workspace, workspace_size, 0, LIMIT(STEPS), nanoseconds);
}

int API(internal_batch)(run_function *one, void *pool, const void *const *inputs, void *const *outputs,
                        void *workspace, size_t workspace_size, size_t count) {
    const void *from[LIMIT(INPUTS)];
    void *to[LIMIT(OUTPUTS)];
    int status = check_pointers(inputs, outputs, workspace, workspace_size, count);
    for (size_t index = 0; index < count && status == LIMIT(OK); index++) {
        for (int i = 0; i < LIMIT(INPUTS); i++)
            from[i] = (const unsigned char *)inputs[i] + index * API(internal_inputs)[i].bytes;
        for (int o = 0; o < LIMIT(OUTPUTS); o++)
            to[o] = (unsigned char *)outputs[o] + index * API(internal_outputs)[o].bytes;
        status = one(pool, from, to, workspace, workspace_size);
    }
    return status;
}

static int run_alone(void *pool, const void *const *inputs, void *const *outputs, void *workspace,
                     size_t workspace_size) {
    (void)pool;
    return run(inputs, outputs, workspace, workspace_size, 0, LIMIT(STEPS), NULL);
}

int API(run_batch)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                   size_t count) {
    return API(internal_batch)(run_alone, NULL, inputs, outputs, workspace, workspace_size, count);
}

/* The variant that the user selected, plus one; 0 leaves the choice to the CPU. */
static atomic_int selected;

static int supported(int variant) {
    uint64_t needed = API(internal_variants)[variant].features;
    return (API(internal_cpu_features)() & needed) == needed;
}

int API(variant)(void) {
    int choice = atomic_load_explicit(&selected, memory_order_relaxed);
    if (choice > 0) return choice - 1;
    for (int variant = 0; variant < LIMIT(VARIANTS); variant++)
        if (supported(variant)) return variant;
    return -1;
}

int API(select_variant)(int variant) {
    if (variant < -1 || variant >= LIMIT(VARIANTS)) return LIMIT(ERROR_RANGE);
    if (variant >= 0 && !supported(variant)) return LIMIT(ERROR_CPU);
    atomic_store_explicit(&selected, variant + 1, memory_order_relaxed);
    return LIMIT(OK);
}

#include "all-names.h"

/* The texts lie one behind the other: a table of pointers would take a relocation for each. */
const char *API(status_text)(int status) {
    static const char texts[] = "ok\0"
                                "a pointer is null\0"
                                "the workspace is not aligned to 64 bytes, or an array not to its elements\0"
                                "the workspace is too small\0"
                                "an output or the workspace overlaps another buffer\0"
                                "the CPU has none of the instruction sets of this library\0"
                                "a step, variant, thread count or batch is out of range\0"
                                "the system refused to start a thread\0"
                                "the pool is not started\0"
                                "a kernel failed\0"
                                "an index lies outside of its axis\0"
                                "an integer is divided by zero";
    const char *named = API(internal_fault_text)(status), *text = texts;
    if (named) return named;
    if (status < 0 || LIMIT(STATUS_STEP)(status) >= LIMIT(STEPS)) return NULL;
    for (int left = LIMIT(STATUS_ERROR)(status); left > 0 && text < texts + sizeof texts; left--)
        while (*text++) continue;
    return text < texts + sizeof texts ? text : NULL;
}
