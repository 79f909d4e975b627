#include "classifier.h"

#include <stdint.h>
#include <stdlib.h>

#include "model.h"
#include "pixels.h"

enum { SIZE = HEIGHT * WIDTH, NO_MEMORY = -1 };

int classifier_width(void) { return WIDTH; }

int classifier_height(void) { return HEIGHT; }

int classifier_classes(void) { return MODEL_OUTPUT0_ELEMENTS; }

/* Grey of ITU-R 601 in 16 bits, as Pillow has it. */
static int grey(const unsigned char *pixel) {
    return (int)((19595u * pixel[0] + 38470u * pixel[1] + 7471u * pixel[2] + 32768u) >> 16);
}

static void fill(float *input, const unsigned char *pixels) {
    for (size_t i = 0; i < SIZE; i++) {
        const unsigned char *pixel = pixels + 4 * i;
        for (size_t channel = 0; channel < CHANNELS; channel++) {
            int value = CHANNELS == 1 ? grey(pixel) : pixel[channel];
            input[PLANAR ? channel * SIZE + i : i * CHANNELS + channel] = (float)((value - mean[channel]) * scale[channel]);
        }
    }
}

int classifier_run(const unsigned char *pixels, float *scores) {
    float *input = malloc(SIZE * CHANNELS * sizeof *input);
    unsigned char *memory = malloc(MODEL_WORKSPACE_SIZE + MODEL_ALIGNMENT);
    int status = NO_MEMORY;
    if (input && memory) {
        fill(input, pixels);
        const void *inputs[] = {input};
        void *outputs[] = {scores};
        unsigned char *workspace = memory + (MODEL_ALIGNMENT - (uintptr_t)memory % MODEL_ALIGNMENT) % MODEL_ALIGNMENT;
        status = model_run(inputs, outputs, workspace, MODEL_WORKSPACE_SIZE);
    }
    free(memory);
    free(input);
    return status;
}

const char *classifier_text(int status) { return status == NO_MEMORY ? "out of memory" : model_status_text(status); }
