/* The network @name@ in the calling convention of TVM, for an RPC server on the device. Statuses are those of @name@.h. */
#include <string.h>
#include <tvm/ffi/c_api.h>

#include "@name@.h"

enum { TENSORS = @NAME@_INPUTS + @NAME@_OUTPUTS + 1 };

#define EXPORT(function)                                                                                              \
    __attribute__((visibility("default"))) int __tvm_ffi_##function(void *self, const TVMFFIAny *arguments,           \
                                                                    int32_t count, TVMFFIAny *result);                \
    int __tvm_ffi_##function(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)

struct buffers {
    const void *inputs[@NAME@_INPUTS];
    void *outputs[@NAME@_OUTPUTS];
    void *workspace, *nanoseconds;
    size_t workspace_size;
};

static @name@_pool pool;
static int pooled;

static int answer(TVMFFIAny *result, int value) {
    result->type_index = kTVMFFIInt;
    result->zero_padding = 0;
    result->v_int64 = value;
    return 0;
}

static int integer(const TVMFFIAny *arguments, int32_t count) {
    return count == 1 && arguments[0].type_index == kTVMFFIInt ? (int)arguments[0].v_int64 : -1;
}

static void *address(const TVMFFIAny *argument) {
    const DLTensor *tensor = argument->v_ptr;
    return (char *)tensor->data + tensor->byte_offset;
}

/* Arguments: inputs, outputs, workspace, and `more` further tensors. */
static int unpack(struct buffers *buffers, const TVMFFIAny *arguments, int32_t count, int more) {
    if (count != TENSORS + more) return @NAME@_ERROR_RANGE;
    for (int i = 0; i < count; i++)
        if (arguments[i].type_index != kTVMFFIDLTensorPtr) return @NAME@_ERROR_RANGE;
    for (int i = 0; i < @NAME@_INPUTS; i++) buffers->inputs[i] = address(arguments++);
    for (int o = 0; o < @NAME@_OUTPUTS; o++) buffers->outputs[o] = address(arguments++);
    buffers->workspace_size = (size_t)((const DLTensor *)arguments->v_ptr)->shape[0];
    buffers->workspace = address(arguments++);
    buffers->nanoseconds = more ? address(arguments) : NULL;
    return @NAME@_OK;
}

/* Use a variant by its number, or the best for -1; the number of the one in use, or -1. */
EXPORT(variant) {
    (void)self;
    int status = @name@_select_variant(integer(arguments, count));
    return answer(result, status == @NAME@_OK ? @name@_variant() : -1);
}

/* Use as many threads for all later runs, but no more than there are processors. */
EXPORT(threads) {
    (void)self;
    int status = pooled ? @name@_pool_stop(&pool) : @NAME@_OK, wanted = integer(arguments, count);
    pooled = 0;
    if (status == @NAME@_OK && wanted != 1) {
        status = @name@_pool_start(&pool, wanted);
        pooled = status == @NAME@_OK;
    }
    return answer(result, status);
}

/* The threads of runs. */
EXPORT(pool_threads) {
    (void)self, (void)arguments, (void)count;
    return answer(result, pooled ? @name@_pool_threads(&pool) : 1);
}

/* One run; arguments: inputs, outputs, workspace. */
EXPORT(run) {
    (void)self;
    struct buffers b;
    int status = unpack(&b, arguments, count, 0);
    if (status == @NAME@_OK)
        status = pooled ? @name@_run_pool(&pool, b.inputs, b.outputs, b.workspace, b.workspace_size)
                        : @name@_run(b.inputs, b.outputs, b.workspace, b.workspace_size);
    return answer(result, status);
}

/* The same with a tensor for the nanoseconds of each step. */
EXPORT(profile) {
    (void)self;
    struct buffers b;
    int status = unpack(&b, arguments, count, 1);
    if (status == @NAME@_OK)
        status = pooled
                     ? @name@_run_pool_profile(&pool, b.inputs, b.outputs, b.workspace, b.workspace_size, b.nanoseconds)
                     : @name@_run_profile(b.inputs, b.outputs, b.workspace, b.workspace_size, b.nanoseconds);
    return answer(result, status);
}

/* What a status means, into a tensor of bytes; arguments: the status, the tensor. */
EXPORT(status_text) {
    (void)self;
    const char *text = count == 2 ? @name@_status_text((int)arguments[0].v_int64) : NULL;
    if (!text || arguments[1].type_index != kTVMFFIDLTensorPtr) return answer(result, @NAME@_ERROR_RANGE);
    const DLTensor *tensor = arguments[1].v_ptr;
    strncpy(address(&arguments[1]), text, (size_t)tensor->shape[0]);
    return answer(result, @NAME@_OK);
}
