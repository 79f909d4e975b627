/*
 * Runs the network @name@ on a picture in PGM or PPM format and prints the likeliest classes.
 *
 *     @cc@ -O2 -static picture.c lib@name@.a -lm -o picture
 *     ./picture picture.pgm [names.txt]
 *
 * The picture has the size of the network's input, one byte for each value (P5 or P6); names.txt has the name of each
 * class on a line.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "@name@.h"

enum { CHANNELS = @channels@, HEIGHT = @height@, WIDTH = @width@, PLANAR = @planar@, CLASSES = @classes@,
       TOP = 5, LONGEST_NAME = 256 };

/* The input is (pixel - mean) * scale. */
static const double mean[CHANNELS] = {@mean@};
static const double scale[CHANNELS] = {@scale@};

/* The first character behind white space and comments. */
static int next_character(FILE *file) {
    int c = fgetc(file);
    while (c == '#' || isspace(c)) {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        c = fgetc(file);
    }
    return c;
}

/* The next number of a header, and the white space behind it; -1 where there is none, or a large one. */
static long number(FILE *file) {
    int c = next_character(file);
    long value = isdigit(c) ? 0 : -1;
    for (; isdigit(c); c = fgetc(file)) value = value < 0 || value > 100000 ? -1 : value * 10 + (c - '0');
    return value;
}

static int refuse(const char *path, const char *why) {
    fprintf(stderr, "error: %s %s\n", path, why);
    return 2;
}

/* Reads the header of a picture that fits the network; 0 where it does. */
static int read_header(FILE *file, const char *path) {
    int p = fgetc(file), kind = fgetc(file);
    if (p != 'P' || kind != (CHANNELS == 1 ? '5' : '6'))
        return refuse(path, CHANNELS == 1 ? "is no grey picture, expected PGM (P5)" : "is no colour picture, expected PPM (P6)");
    long width = number(file), height = number(file), most = number(file);
    if (width != WIDTH || height != HEIGHT) {
        fprintf(stderr, "error: %s has %ldx%ld pixels, expected %dx%d\n", path, width, height, WIDTH, HEIGHT);
        return 2;
    }
    return most == 255 ? 0 : refuse(path, "has other values than 0 to 255");
}

static int read_picture(@type@ *input, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return refuse(path, "cannot be opened");
    int status = read_header(file, path);
    for (size_t i = 0; !status && i < (size_t)HEIGHT * WIDTH * CHANNELS; i++) {
        int pixel = fgetc(file);
        size_t channel = i % CHANNELS, place = i / CHANNELS;
        if (pixel == EOF)
            status = refuse(path, "is cut off");
        else
            input[PLANAR ? channel * HEIGHT * WIDTH + place : i] = (@type@)((pixel - mean[channel]) * scale[channel]);
    }
    fclose(file);
    return status;
}

/* Leaves the name of a class, which is a line of a file; "" without a file. */
static int read_name(char *name, const char *path, size_t class) {
    size_t length = 0, line = 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (path && !file) return refuse(path, "cannot be opened");
    for (int c; file && line <= class && (c = fgetc(file)) != EOF; line += c == '\n')
        if (line == class && c != '\n' && c != '\r' && length < LONGEST_NAME - 1) name[length++] = (char)c;
    name[length] = 0;
    if (file) fclose(file);
    return path && !length && line <= class ? refuse(path, "has fewer names than the network has classes") : 0;
}

/* Of equal scores the first is the likelier one. */
static void print_likeliest(const float *scores, const char *names) {
    static unsigned char printed[CLASSES];
    for (int rank = 0; rank < TOP && rank < CLASSES; rank++) {
        size_t best = CLASSES;
        for (size_t i = 0; i < CLASSES; i++)
            if (!printed[i] && (best == CLASSES || scores[i] > scores[best])) best = i;
        char name[LONGEST_NAME];
        if (read_name(name, names, best)) return;
        printf("%lu %.6g %s\n", (unsigned long)best, (double)scores[best], name);
        printed[best] = 1;
    }
}

static unsigned char *aligned(unsigned char *start) {
    return start + (@NAME@_ALIGNMENT - (uintptr_t)start % @NAME@_ALIGNMENT) % @NAME@_ALIGNMENT;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "error: expected a picture, and maybe a file of names\n");
        return 2;
    }
    static @type@ input[HEIGHT * WIDTH * CHANNELS];
    static float scores[CLASSES];
    char last[LONGEST_NAME];
    int status = read_picture(input, argv[1]);
    if (!status) status = read_name(last, argc == 3 ? argv[2] : NULL, CLASSES - 1);
    if (status) return status;
    unsigned char *memory = malloc(@NAME@_WORKSPACE_SIZE + @NAME@_ALIGNMENT);
    if (!memory) {
        fprintf(stderr, "error: out of memory\n");
        return 1;
    }
    const void *inputs[] = {input};
    void *outputs[] = {scores};
    status = @name@_run(inputs, outputs, aligned(memory), @NAME@_WORKSPACE_SIZE);
    if (status == @NAME@_OK)
        print_likeliest(scores, argc == 3 ? argv[2] : NULL);
    else
        fprintf(stderr, "error: %s\n", @name@_status_text(status));
    free(memory);
    return status != @NAME@_OK;
}
