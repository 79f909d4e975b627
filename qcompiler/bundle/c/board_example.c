/*
 * Runs the network @name@ once on an emulated board, and prints its outputs: on files of the host, or on random inputs.
 *
 *     make run INPUTS="input0.bin [input1.bin ...]"
 *
 * An input file holds the elements in C order. Inputs, outputs and the workspace are static arrays; of this file only
 * those, and the call of @name@_run, belong into a firmware.
 */
#include "@name@.h"
#include "board-semihosting.h"

enum { LINE = 1024, SHOWN = 16 };

static _Alignas(@NAME@_ALIGNMENT) unsigned char workspace[@NAME@_WORKSPACE_SIZE];
@arrays@
static void *const input_arrays[] = {@input_arrays@};
static void *const output_arrays[] = {@output_arrays@};
static intptr_t out;

static void print(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    host_transfer(HOST_WRITE, out, text, length);
}

static void print_integer(int64_t number) {
    char text[24], *at = text + sizeof text - 1;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *at = 0;
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) *--at = '-';
    print(at);
}

/* Six digits behind the point, of numbers below 2^53. */
static void print_real(double number) {
    double size = number < 0 ? -number : number;
    if (!(size < 9007199254740992.0)) {
        print(size == size ? "large" : "nan");
        return;
    }
    int64_t whole = (int64_t)size, rest = (int64_t)((size - (double)whole) * 1e6 + 0.5) + 1000000;
    if (rest >= 2000000) whole++, rest -= 1000000;
    if (number < 0) print("-");
    print_integer(whole);
    char digits[] = ".000000";
    for (int i = 6; i > 0; i--, rest /= 10) digits[i] = (char)('0' + rest % 10);
    print(digits);
}

static int is(const @name@_tensor *tensor, const char *dtype) {
    const char *found = tensor->dtype;
    while (*found && *found == *dtype) found++, dtype++;
    return *found == *dtype;
}

static int is_real(const @name@_tensor *tensor) {
    return is(tensor, "float32") || is(tensor, "float64");
}

static int64_t integer(const void *data, size_t i, const @name@_tensor *tensor) {
    if (is(tensor, "int64") || is(tensor, "uint64")) return ((const int64_t *)data)[i];
    if (is(tensor, "int32")) return ((const int32_t *)data)[i];
    if (is(tensor, "uint32")) return ((const uint32_t *)data)[i];
    if (is(tensor, "int16")) return ((const int16_t *)data)[i];
    if (is(tensor, "uint16") || is(tensor, "float16")) return ((const uint16_t *)data)[i];
    if (is(tensor, "int8")) return ((const int8_t *)data)[i];
    return ((const uint8_t *)data)[i];
}

static double real(const void *data, size_t i, const @name@_tensor *tensor) {
    if (is(tensor, "float32")) return ((const float *)data)[i];
    return is(tensor, "float64") ? ((const double *)data)[i] : (double)integer(data, i, tensor);
}

static void print_output(const void *data, const @name@_tensor *tensor) {
    size_t count = 1, largest = 0;
    for (int axis = 0; axis < tensor->rank; axis++) count *= (size_t)tensor->shape[axis];
    print(tensor->name);
    print(":");
    for (size_t i = 0; i < count; i++) {
        if (i < SHOWN) {
            print(" ");
            if (is_real(tensor)) print_real(real(data, i, tensor));
            else print_integer(integer(data, i, tensor));
        }
        if (real(data, i, tensor) > real(data, largest, tensor)) largest = i;
    }
    print(count > SHOWN ? " ...\n largest at " : "\n largest at ");
    print_integer((int64_t)largest);
    print("\n");
}

/* Floats in [-1, 1); whole bytes for the other types, except that a boolean is 0 or 1. */
static void fill_random(void *data, const @name@_tensor *tensor) {
    uint32_t state = 1;
    size_t size = is(tensor, "float32") ? sizeof(float) : is(tensor, "float64") ? sizeof(double) : 1;
    for (size_t i = 0; i < tensor->bytes / size; i++) {
        state = state * 1664525u + 1013904223u;
        if (size == sizeof(float)) ((float *)data)[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
        else if (size == sizeof(double)) ((double *)data)[i] = (double)(state >> 8) / 8388608.0 - 1.0;
        else ((unsigned char *)data)[i] = (unsigned char)(is(tensor, "bool") ? state >> 31 : state >> 24);
    }
}

static int refuse(const char *what, const char *why) {
    print("error: ");
    print(what);
    print(why);
    return 2;
}

static int read_file(void *data, size_t bytes, const char *path) {
    unsigned char more;
    intptr_t file = host_open(path, HOST_FOR_READING);
    if (file < 0) return refuse(path, " cannot be opened\n");
    int whole = host_transfer(HOST_READ, file, data, bytes) == 0 && host_transfer(HOST_READ, file, &more, 1) == 1;
    host_close(file);
    return whole ? 0 : refuse(path, " does not hold exactly the bytes of its input\n");
}

/* The next word of a line, which ends there; null at its end. */
static char *next_word(char **line) {
    while (**line == ' ') ++*line;
    char *word = *line;
    while (**line && **line != ' ') ++*line;
    if (**line) *(*line)++ = 0;
    return *word ? word : 0;
}

static int fill_inputs(char *line) {
    next_word(&line); /* the program */
    for (int i = 0; i < @NAME@_INPUTS; i++) {
        const @name@_tensor *tensor = @name@_input(i);
        char *path = next_word(&line);
        if (!path && i) return refuse("inputs", " are too few\n");
        if (!path) {
            for (; i < @NAME@_INPUTS; i++) fill_random(input_arrays[i], @name@_input(i));
            return 0;
        }
        int status = read_file(input_arrays[i], tensor->bytes, path);
        if (status) return status;
    }
    return next_word(&line) ? refuse("inputs", " are too many\n") : 0;
}

int main(void) {
    static char line[LINE];
    out = host_open(":tt", HOST_FOR_WRITING);
    host_arguments(line, LINE);
    int status = fill_inputs(line);
    if (status) return status;
    status = @name@_run((const void *const *)input_arrays, output_arrays, workspace, sizeof workspace);
    if (status != @NAME@_OK) return refuse(@name@_status_text(status), "\n");
    for (int o = 0; o < @NAME@_OUTPUTS; o++) print_output(output_arrays[o], @name@_output(o));
    return 0;
}
