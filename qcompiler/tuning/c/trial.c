/* A kernel on trial: run once, or timed in rounds by this machine's clock; for C, and in TVM's calling convention.
   ARGUMENTS are the pointers p[0], p[1] and so on that the kernel takes before its range of work items. */
#include <stdint.h>
#include <time.h>
#include <tvm/ffi/c_api.h>

#define VISIBLE __attribute__((visibility("default")))
#define EXPORT(function)                                                                                               \
    VISIBLE int __tvm_ffi_##function(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);        \
    int __tvm_ffi_##function(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)

enum { MOST_POINTERS = 64, LEAST_RUNS = 3, FAILED = -1 };

int32_t kernel();

VISIBLE int32_t trial_run(void *const *p, int32_t items) {
    return kernel(ARGUMENTS, 0, items);
}

static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

/* The mean of a run in each of `rounds`, which take at least so many nanoseconds. */
VISIBLE int32_t trial_time(void *const *p, int32_t items, int32_t rounds, int64_t least, double *means) {
    for (int32_t round = 0; round < rounds; round++) {
        int32_t status = trial_run(p, items), runs = 0;
        double begin = nanoseconds(), end = begin;
        while (runs < LEAST_RUNS || end - begin < (double)least) {
            status |= trial_run(p, items);
            runs++;
            end = nanoseconds();
        }
        if (status) return status;
        means[round] = (end - begin) / runs;
    }
    return 0;
}

static void *address(const TVMFFIAny *argument) {
    const DLTensor *tensor = argument->v_ptr;
    return (char *)tensor->data + tensor->byte_offset;
}

static int answer(TVMFFIAny *result, int64_t value) {
    result->type_index = kTVMFFIInt;
    result->zero_padding = 0;
    result->v_int64 = value;
    return 0;
}

/* The tensors among arguments whose last `more` are integers; how many there are, or FAILED. */
static int unpack(void **p, const TVMFFIAny *arguments, int32_t count, int more) {
    int tensors = count - more;
    if (tensors < 1 || tensors > MOST_POINTERS) return FAILED;
    for (int i = 0; i < count; i++)
        if (arguments[i].type_index != (i < tensors ? kTVMFFIDLTensorPtr : kTVMFFIInt)) return FAILED;
    for (int i = 0; i < tensors; i++) p[i] = address(arguments + i);
    return tensors;
}

/* Arguments: the kernel's pointers as tensors, its work items. */
EXPORT(run) {
    (void)self;
    void *p[MOST_POINTERS];
    if (unpack(p, arguments, count, 1) < 0) return answer(result, FAILED);
    return answer(result, trial_run(p, (int32_t)arguments[count - 1].v_int64));
}

/* The same, then a tensor for the means and: work items, rounds, nanoseconds of a round. */
EXPORT(time) {
    (void)self;
    void *p[MOST_POINTERS];
    int tensors = unpack(p, arguments, count, 3);
    if (tensors < 2) return answer(result, FAILED);
    const TVMFFIAny *numbers = arguments + tensors;
    return answer(result, trial_time(p, (int32_t)numbers[0].v_int64, (int32_t)numbers[1].v_int64, numbers[2].v_int64,
                                     p[tensors - 1]));
}
