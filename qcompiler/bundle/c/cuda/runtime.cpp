/* Runs the steps of a compiled network on the current device, one behind the other on a stream. */
#include "all-internals.h"

#include <pthread.h>

enum { DEVICES = 64, BITS = 8 };

/* The weights on every device; null where they are not. */
static unsigned char *held[DEVICES];
static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER;

static int status_of(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return LIMIT(OK);
    case cudaErrorMemoryAllocation: return LIMIT(ERROR_MEMORY);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver: return LIMIT(ERROR_DEVICE);
    case cudaErrorNoKernelImageForDevice: return LIMIT(ERROR_ARCHITECTURE);
    default: return LIMIT(ERROR_KERNEL);
    }
}

/* The status of an error, which later calls of the runtime do not give again. */
static int cleared(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
    return status_of(error);
}

static int device_of(int *device) {
    int status = cleared(cudaGetDevice(device));
    return status == LIMIT(OK) && (*device < 0 || *device >= DEVICES) ? LIMIT(ERROR_DEVICE) : status;
}

static int supported(int device, const struct variant *variant) {
    int major = 0, minor = 0;
    if (cleared(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device))) return 0;
    if (cleared(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device))) return 0;
    if (ANY_DEVICE) return 1;
    if (major != variant->major) return 0;
    return variant->exact ? minor == variant->minor : minor >= variant->minor;
}

/* The variant that the user selected, plus one; 0 leaves the choice to the device. */
static int selected;

static int chosen(int device) {
    int choice = __atomic_load_n(&selected, __ATOMIC_RELAXED);
    if (choice > 0) return choice - 1;
    for (int variant = 0; variant < LIMIT(VARIANTS); variant++)
        if (supported(device, &API(internal_variants)[variant])) return variant;
    return -1;
}

static int hold(int device, const unsigned char **constants) {
    size_t bytes = (size_t)(API(internal_constants_end) - API(internal_constants));
    int status = LIMIT(OK);
    pthread_mutex_lock(&holding);
    if (!held[device]) {
        void *memory = nullptr;
        status = cleared(cudaMalloc(&memory, bytes));
        if (status == LIMIT(OK)) status = cleared(cudaMemcpy(memory, API(internal_constants), bytes, cudaMemcpyDefault));
        if (status == LIMIT(OK)) held[device] = (unsigned char *)memory;
        else if (memory) cudaFree(memory);
    }
    *constants = held[device];
    pthread_mutex_unlock(&holding);
    return status;
}

/* Whether a pointer is memory of the device, or, where that will do, of the host. */
static int reachable(const void *pointer, int device, int host_too) {
    struct cudaPointerAttributes found;
    if (cleared(cudaPointerGetAttributes(&found, pointer))) return 0;
    if (found.type == cudaMemoryTypeDevice) return found.device == device;
    return found.type == cudaMemoryTypeManaged || host_too;
}

static int misaligned(const void *pointer, size_t alignment) {
    return (uintptr_t)pointer % alignment != 0;
}

static int check(const void *const *inputs, void *const *outputs, const void *workspace, size_t size, int device) {
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
    if (!reachable(workspace, device, 0)) return LIMIT(ERROR_PLACE);
    for (int i = 0; i < LIMIT(INPUTS); i++)
        if (!reachable(inputs[i], device, 1)) return LIMIT(ERROR_PLACE);
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        if (!reachable(outputs[o], device, 1)) return LIMIT(ERROR_PLACE);
    return LIMIT(OK);
}

/* The runs of one call: where the first ones have everything, how many there are, and the steps of their variant. As many
 * are launched together as the workspace has room for. */
struct work {
    struct memory memory;
    size_t count;
    step_function *const *steps;
};

/* Whether the bytes of all runs are a number. */
static int countable(size_t count) {
    size_t most = 1;
    for (int i = 0; i < LIMIT(INPUTS); i++) most = API(internal_inputs)[i].bytes > most ? API(internal_inputs)[i].bytes : most;
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        most = API(internal_outputs)[o].bytes > most ? API(internal_outputs)[o].bytes : most;
    return count <= PTRDIFF_MAX / most;
}

static int begin(struct work *work, const void *const *inputs, void *const *outputs, void *workspace, size_t size,
                 size_t count) {
    int device = 0, status = device_of(&device);
    if (status != LIMIT(OK)) return status;
    status = check(inputs, outputs, workspace, size, device);
    if (status != LIMIT(OK)) return status;
    if (!countable(count)) return LIMIT(ERROR_RANGE);
    int variant = chosen(device);
    if (variant < 0) return LIMIT(ERROR_ARCHITECTURE);
    const unsigned char *constants = nullptr;
    status = hold(device, &constants);
    unsigned char *bytes = (unsigned char *)workspace;
    size_t shared = API(internal_fault_bytes), room = (size - shared) / (LIMIT(WORKSPACE_SIZE) - shared);
    for (int i = 0; i < LIMIT(INPUTS); i++) work->memory.inputs[i] = inputs[i];
    for (int o = 0; o < LIMIT(OUTPUTS); o++) work->memory.outputs[o] = outputs[o];
    work->memory.workspace = bytes + shared;
    work->memory.constants = constants;
    work->memory.faults = (int32_t *)bytes;
    work->memory.runs = room < API(internal_most_runs) ? room : API(internal_most_runs);
    work->count = count;
    work->steps = API(internal_variants)[variant].steps;
    return status;
}

/* The runs from number `done` on that are launched together. */
static struct memory some(const struct work *work, size_t done) {
    struct memory memory = work->memory;
    for (int i = 0; i < LIMIT(INPUTS); i++)
        memory.inputs[i] = (const unsigned char *)memory.inputs[i] + done * API(internal_inputs)[i].bytes;
    for (int o = 0; o < LIMIT(OUTPUTS); o++)
        memory.outputs[o] = (unsigned char *)memory.outputs[o] + done * API(internal_outputs)[o].bytes;
    if (work->count - done < memory.runs) memory.runs = work->count - done;
    return memory;
}

static int forget_faults(const struct work *work, cudaStream_t stream) {
    size_t faults = (size_t)API(internal_fault_count) * sizeof *work->memory.faults;
    return faults ? cleared(cudaMemsetAsync(work->memory.faults, 0, faults, stream)) : LIMIT(OK);
}

static int launch(const struct work *work, const struct memory *memory, int step, cudaStream_t stream) {
    int status = cleared(work->steps[step](memory, stream));
    return status == LIMIT(OK) ? status : STEP_STATUS(step, status);
}

static int start(const struct work *work, int first, int last, cudaStream_t stream) {
    int status = forget_faults(work, stream);
    for (size_t done = 0; done < work->count; done += work->memory.runs) {
        struct memory memory = some(work, done);
        for (int step = first; step < last && status == LIMIT(OK); step++) status = launch(work, &memory, step, stream);
    }
    return status;
}

static int finish(const int32_t *faults, cudaStream_t stream) {
    int status = cleared(cudaStreamSynchronize(stream));
    for (int i = 0; status == LIMIT(OK) && i < API(internal_fault_count); i++) {
        int32_t fault = 0;
        status = cleared(cudaMemcpy(&fault, faults + i, sizeof fault, cudaMemcpyDefault));
        if (status == LIMIT(OK) && fault) return STEP_STATUS(API(internal_fault_steps)[i], fault);
    }
    return status;
}

static int run_all(const void *const *inputs, void *const *outputs, void *workspace, size_t size, size_t count, int first,
                   int last) {
    struct work work;
    int status = begin(&work, inputs, outputs, workspace, size, count);
    if (status == LIMIT(OK)) status = start(&work, first, last, nullptr);
    return status == LIMIT(OK) ? finish(work.memory.faults, nullptr) : status;
}

int API(prepare)(void) {
    int device = 0, status = device_of(&device);
    const unsigned char *constants;
    if (status != LIMIT(OK)) return status;
    return chosen(device) < 0 ? LIMIT(ERROR_ARCHITECTURE) : hold(device, &constants);
}

int API(release)(void) {
    int device = 0, status = device_of(&device);
    if (status != LIMIT(OK)) return status;
    pthread_mutex_lock(&holding);
    status = cleared(cudaFree(held[device]));
    held[device] = nullptr;
    pthread_mutex_unlock(&holding);
    return status;
}

int API(run)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size) {
    return API(run_batch)(inputs, outputs, workspace, workspace_size, 1);
}

int API(run_batch)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                   size_t count) {
    return run_all(inputs, outputs, workspace, workspace_size, count, 0, LIMIT(STEPS));
}

int API(run_steps)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size, int first,
                   int last) {
    if (first < 0 || last < first || last > LIMIT(STEPS)) return LIMIT(ERROR_RANGE);
    return run_all(inputs, outputs, workspace, workspace_size, 1, first, last);
}

int API(enqueue)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size, void *stream) {
    return API(enqueue_batch)(inputs, outputs, workspace, workspace_size, 1, stream);
}

int API(enqueue_batch)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                       size_t count, void *stream) {
    struct work work;
    int status = begin(&work, inputs, outputs, workspace, workspace_size, count);
    return status == LIMIT(OK) ? start(&work, 0, LIMIT(STEPS), (cudaStream_t)stream) : status;
}

/* Whether all inputs and outputs are memory of the device, as a graph needs them. */
static int on_device(const void *const *inputs, void *const *outputs) {
    int device = 0, status = device_of(&device);
    for (int i = 0; status == LIMIT(OK) && i < LIMIT(INPUTS); i++)
        if (!reachable(inputs[i], device, 0)) status = LIMIT(ERROR_PLACE);
    for (int o = 0; status == LIMIT(OK) && o < LIMIT(OUTPUTS); o++)
        if (!reachable(outputs[o], device, 0)) status = LIMIT(ERROR_PLACE);
    return status;
}

static int record(const struct work *work, cudaStream_t stream, cudaGraphExec_t *graph) {
    cudaGraph_t recorded = nullptr;
    int status = cleared(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    if (status != LIMIT(OK)) return status;
    status = start(work, 0, LIMIT(STEPS), stream);
    int ended = cleared(cudaStreamEndCapture(stream, &recorded));
    if (status == LIMIT(OK)) status = ended;
    if (status == LIMIT(OK)) status = cleared(cudaGraphInstantiate(graph, recorded, 0));
    if (recorded) cudaGraphDestroy(recorded);
    return status;
}

int API(capture)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size, void **graph) {
    return API(capture_batch)(inputs, outputs, workspace, workspace_size, 1, graph);
}

int API(capture_batch)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                       size_t count, void **graph) {
    struct work work;
    cudaStream_t stream;
    cudaGraphExec_t made = nullptr;
    if (!graph) return LIMIT(ERROR_NULL);
    *graph = nullptr;
    int status = begin(&work, inputs, outputs, workspace, workspace_size, count);
    if (status == LIMIT(OK)) status = on_device(inputs, outputs);
    if (status == LIMIT(OK)) status = cleared(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (status != LIMIT(OK)) return status;
    status = record(&work, stream, &made);
    cudaStreamDestroy(stream);
    if (status == LIMIT(OK)) *graph = made;
    return status;
}

int API(replay)(void *graph, void *stream) {
    return graph ? cleared(cudaGraphLaunch((cudaGraphExec_t)graph, (cudaStream_t)stream)) : LIMIT(ERROR_NULL);
}

int API(discard)(void *graph) {
    return graph ? cleared(cudaGraphExecDestroy((cudaGraphExec_t)graph)) : LIMIT(ERROR_NULL);
}

int API(wait)(const void *workspace, void *stream) {
    if (!workspace) return LIMIT(ERROR_NULL);
    return finish((const int32_t *)workspace, (cudaStream_t)stream);
}

int API(run_profile)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                     uint64_t *nanoseconds) {
    return API(run_batch_profile)(inputs, outputs, workspace, workspace_size, 1, nanoseconds);
}

static int timed(const struct work *work, cudaEvent_t before, cudaEvent_t after, uint64_t *nanoseconds) {
    int status = forget_faults(work, nullptr);
    for (size_t done = 0; done < work->count; done += work->memory.runs) {
        struct memory memory = some(work, done);
        for (int step = 0; step < LIMIT(STEPS) && status == LIMIT(OK); step++) {
            float milliseconds = 0;
            cudaEventRecord(before, nullptr);
            status = launch(work, &memory, step, nullptr);
            cudaEventRecord(after, nullptr);
            if (status == LIMIT(OK)) status = finish(work->memory.faults, nullptr);
            if (status == LIMIT(OK)) status = cleared(cudaEventElapsedTime(&milliseconds, before, after));
            nanoseconds[step] += (uint64_t)(milliseconds * 1e6f);
        }
    }
    return status;
}

int API(run_batch_profile)(const void *const *inputs, void *const *outputs, void *workspace, size_t workspace_size,
                           size_t count, uint64_t *nanoseconds) {
    struct work work;
    cudaEvent_t before, after;
    if (!nanoseconds) return LIMIT(ERROR_NULL);
    for (int step = 0; step < LIMIT(STEPS); step++) nanoseconds[step] = 0;
    int status = begin(&work, inputs, outputs, workspace, workspace_size, count);
    if (status != LIMIT(OK)) return status;
    status = cleared(cudaEventCreate(&before));
    if (status != LIMIT(OK)) return status;
    status = cleared(cudaEventCreate(&after));
    if (status != LIMIT(OK)) {
        cudaEventDestroy(before);
        return status;
    }
    status = timed(&work, before, after, nanoseconds);
    cudaEventDestroy(before);
    cudaEventDestroy(after);
    return status;
}

int API(allocate)(size_t bytes, void **memory) {
    return memory ? cleared(cudaMalloc(memory, bytes)) : LIMIT(ERROR_NULL);
}

int API(free)(void *memory) {
    return cleared(cudaFree(memory));
}

int API(copy)(void *to, const void *from, size_t bytes) {
    return to && from ? cleared(cudaMemcpy(to, from, bytes, cudaMemcpyDefault)) : LIMIT(ERROR_NULL);
}

int API(variant)(void) {
    int device = 0;
    return device_of(&device) == LIMIT(OK) ? chosen(device) : -1;
}

int API(select_variant)(int variant) {
    int device = 0;
    if (variant < -1 || variant >= LIMIT(VARIANTS)) return LIMIT(ERROR_RANGE);
    int status = variant < 0 ? LIMIT(OK) : device_of(&device);
    if (status != LIMIT(OK)) return status;
    if (variant >= 0 && !supported(device, &API(internal_variants)[variant])) return LIMIT(ERROR_ARCHITECTURE);
    __atomic_store_n(&selected, variant + 1, __ATOMIC_RELAXED);
    return LIMIT(OK);
}

#include "all-names.h"

const char *API(status_text)(int status) {
    static const char *const texts[] = {
        "ok",
        "a pointer is null",
        "the workspace is not aligned to 64 bytes, or an array not to its elements",
        "the workspace is too small",
        "the workspace, or an array of a device, is not memory of the current device",
        "the library holds no code for this device",
        "a step, variant or batch is out of range",
        "the device has not enough memory",
        "there is no CUDA device here, or no driver for it",
        "a kernel failed",
        "an index lies outside of its axis",
        "an integer is divided by zero",
    };
    const char *named = API(internal_fault_text)(status);
    if (named) return named;
    int error = LIMIT(STATUS_ERROR)(status);
    if (status < 0 || LIMIT(STATUS_STEP)(status) >= LIMIT(STEPS)) return nullptr;
    return error < (int)(sizeof texts / sizeof *texts) ? texts[error] : nullptr;
}
