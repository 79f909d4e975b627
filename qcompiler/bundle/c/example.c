/*
 * Runs the network @name@ once, on raw input files or on random input, and prints the outputs.
 *
 *     @cc@ -O2 @linked@ -o example
 *     ./example [input0.bin [input1.bin ...]]
 *
 * An input file holds the elements in C order, in the byte order of the machine: numpy's array.tofile(path).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "@name@.h"

/* The next `bytes` of the memory at *next, at the alignment that @name@_run wants for its workspace. */
static void *take(unsigned char **next, size_t bytes) {
    unsigned char *start = *next + (@NAME@_ALIGNMENT - (uintptr_t)*next % @NAME@_ALIGNMENT) % @NAME@_ALIGNMENT;
    *next = start + bytes;
    return start;
}

/* Enough for all inputs and outputs and the workspace. */
static unsigned char *allocate(void) {
    size_t bytes = @NAME@_WORKSPACE_SIZE + (1 + @NAME@_INPUTS + @NAME@_OUTPUTS) * @NAME@_ALIGNMENT;
    for (int i = 0; i < @NAME@_INPUTS; i++) bytes += @name@_input(i)->bytes;
    for (int o = 0; o < @NAME@_OUTPUTS; o++) bytes += @name@_output(o)->bytes;
    return malloc(bytes);
}

static int is(const @name@_tensor *tensor, const char *dtype) {
    return strcmp(tensor->dtype, dtype) == 0;
}

/* Floats in [-1, 1); whole bytes for the other types, except that a boolean is 0 or 1. */
static void fill_random(void *data, const @name@_tensor *tensor) {
    uint32_t state = 1;
    size_t size = is(tensor, "float32") ? sizeof(float) : is(tensor, "float64") ? sizeof(double) : 1;
    for (size_t i = 0; i < tensor->bytes / size; i++) {
        state = state * 1664525u + 1013904223u;
        if (size == sizeof(float))
            ((float *)data)[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
        else if (size == sizeof(double))
            ((double *)data)[i] = (double)(state >> 8) / 8388608.0 - 1.0;
        else
            ((unsigned char *)data)[i] = (unsigned char)(is(tensor, "bool") ? state >> 31 : state >> 24);
    }
}

static int read_file(void *data, size_t bytes, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "error: cannot open %s\n", path);
        return 1;
    }
    size_t count = fread(data, 1, bytes, file);
    int whole = count == bytes && fgetc(file) == EOF;
    fclose(file);
    if (!whole) fprintf(stderr, "error: %s does not hold exactly %lu bytes\n", path, (unsigned long)bytes);
    return !whole;
}

static double element(const void *data, size_t i, const @name@_tensor *tensor) {
    if (is(tensor, "float32")) return ((const float *)data)[i];
    if (is(tensor, "float64")) return ((const double *)data)[i];
    if (is(tensor, "int64")) return (double)((const int64_t *)data)[i];
    if (is(tensor, "int32")) return ((const int32_t *)data)[i];
    if (is(tensor, "int16")) return ((const int16_t *)data)[i];
    if (is(tensor, "int8")) return ((const int8_t *)data)[i];
    if (is(tensor, "uint64")) return (double)((const uint64_t *)data)[i];
    if (is(tensor, "uint32")) return ((const uint32_t *)data)[i];
    if (is(tensor, "uint16")) return ((const uint16_t *)data)[i];
    return ((const uint8_t *)data)[i];
}

static size_t elements(const @name@_tensor *tensor) {
    size_t count = 1;
    for (int axis = 0; axis < tensor->rank; axis++) count *= (size_t)tensor->shape[axis];
    return count;
}

static void print(const void *data, const @name@_tensor *tensor) {
    size_t count = elements(tensor), largest = 0;
    printf("%s: %s [", tensor->name, tensor->dtype);
    for (int axis = 0; axis < tensor->rank; axis++) printf(axis ? ", %ld" : "%ld", (long)tensor->shape[axis]);
    printf("]\n");
    for (size_t i = 0; i < count; i++) {
        if (i < 16) printf(" %.7g", element(data, i, tensor));
        if (element(data, i, tensor) > element(data, largest, tensor)) largest = i;
    }
    printf("%s\n largest at %lu\n", count > 16 ? " ..." : "", (unsigned long)largest);
}

static int run(unsigned char *next, char **paths) {
    const void *inputs[@NAME@_INPUTS];
    void *outputs[@NAME@_OUTPUTS];
    for (int i = 0; i < @NAME@_INPUTS; i++) {
        const @name@_tensor *tensor = @name@_input(i);
        void *data = take(&next, tensor->bytes);
        if (!paths)
            fill_random(data, tensor);
        else if (read_file(data, tensor->bytes, paths[i]))
            return 2;
        inputs[i] = data;
    }
    for (int o = 0; o < @NAME@_OUTPUTS; o++) outputs[o] = take(&next, @name@_output(o)->bytes);
@workspace@
    int status = @name@_run(inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE);
    if (status != @NAME@_OK) {
        fprintf(stderr, "error: %s\n", @name@_status_text(status));
        return 1;
    }
    for (int o = 0; o < @NAME@_OUTPUTS; o++) print(outputs[o], @name@_output(o));
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 1 && argc != 1 + @NAME@_INPUTS) {
        fprintf(stderr, "error: %d input files given, %d expected\n", argc - 1, @NAME@_INPUTS);
        return 2;
    }
    unsigned char *memory = allocate();
    if (!memory) {
        fprintf(stderr, "error: out of memory\n");
        return 1;
    }
    int status = run(memory, argc == 1 ? NULL : argv + 1);
    free(memory);
    return status;
}
