/*
 * Runs steps of the network @name@ in memory that it shares with another process through a file, under an emulator.
 *
 * The file holds the inputs, the outputs and the workspace, each at a multiple of @NAME@_ALIGNMENT bytes. A request
 * is a line "variant first last"; the answer is a line with "0" or what went wrong.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "@name@.h"

static const void *inputs[@NAME@_INPUTS];
static void *outputs[@NAME@_OUTPUTS];

static size_t aligned(size_t bytes) {
    return (bytes + @NAME@_ALIGNMENT - 1) / @NAME@_ALIGNMENT * @NAME@_ALIGNMENT;
}

static size_t file_size(void) {
    size_t bytes = @NAME@_WORKSPACE_SIZE;
    for (int i = 0; i < @NAME@_INPUTS; i++) bytes += aligned(@name@_input(i)->bytes);
    for (int o = 0; o < @NAME@_OUTPUTS; o++) bytes += aligned(@name@_output(o)->bytes);
    return bytes;
}

/* Points the inputs and outputs into the file; gives the workspace behind them. */
static unsigned char *deal(unsigned char *next) {
    for (int i = 0; i < @NAME@_INPUTS; i++) {
        inputs[i] = next;
        next += aligned(@name@_input(i)->bytes);
    }
    for (int o = 0; o < @NAME@_OUTPUTS; o++) {
        outputs[o] = next;
        next += aligned(@name@_output(o)->bytes);
    }
    return next;
}

int main(int argc, char **argv) {
    int file = argc == 2 ? open(argv[1], O_RDWR) : -1;
    void *memory = file < 0 ? MAP_FAILED : mmap(NULL, file_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int variant, first, last;
    if (memory == MAP_FAILED) return 1;
    unsigned char *workspace = deal(memory);
    while (scanf("%d %d %d", &variant, &first, &last) == 3) {
        int status = @name@_select_variant(variant);
        if (status == @NAME@_OK)
            status = @name@_run_steps(inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE, first, last);
        puts(status == @NAME@_OK ? "0" : @name@_status_text(status));
        fflush(stdout);
    }
    return 0;
}
