/*
 * Times the network @name@ on this machine, as a whole and step by step.
 *
 *     @cc@ -O2 -static bench.c lib@name@.a -lm -o bench        (add -pthread before glibc 2.34)
 *     ./bench [runs [threads]]
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "@name@.h"

#ifndef CPU_CLOCK
#define CPU_CLOCK "/sys/devices/system/cpu/cpu0/cpufreq"
#endif

enum { MAX_RUNS = 1000000, PROFILE_RUNS = 20 };

static void *allocate(size_t bytes) {
    void *memory;
    if (posix_memalign(&memory, @NAME@_ALIGNMENT, bytes) != 0) {
        fprintf(stderr, "error: no memory for %lu bytes\n", (unsigned long)bytes);
        exit(1);
    }
    return memset(memory, 0, bytes);
}

static void check(int status) {
    if (status == @NAME@_OK) return;
    fprintf(stderr, "error: %s\n", @name@_status_text(status));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static @name@_pool pool;
static const void *inputs[@NAME@_INPUTS];
static void *outputs[@NAME@_OUTPUTS];
static void *workspace;

static void run(void) {
    check(@name@_run_pool(&pool, inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE));
}

/* One word that the kernel tells of the clock; 0 where it tells none. */
static int read_clock(const char *what, char word[32]) {
    char path[sizeof CPU_CLOCK + 32];
    snprintf(path, sizeof path, CPU_CLOCK "/%s", what);
    FILE *file = fopen(path, "r");
    int found = file && fscanf(file, "%31s", word) == 1;
    if (file) fclose(file);
    return found;
}

/* Times mean little without the clock they were taken at, and one that is not fixed changes while they are taken. */
static void print_clock(void) {
    char now[32], most[32], governor[32];
    if (!read_clock("scaling_cur_freq", now) || !read_clock("cpuinfo_max_freq", most)) {
        printf("CPU frequency: not told by this system (no " CPU_CLOCK ")\n");
        return;
    }
    printf("CPU frequency: %.0f MHz of at most %.0f MHz", atof(now) * 1e-3, atof(most) * 1e-3);
    if (read_clock("scaling_governor", governor)) {
        printf(", governor %s", governor);
        if (strcmp(governor, "performance") != 0) printf(": for steady times, set it to performance");
    }
    printf("\n");
}

static void time_runs(int runs) {
    double *microseconds = allocate((size_t)runs * sizeof(double));
    for (int i = 0; i < runs / 10 + 3; i++) run();
    for (int i = 0; i < runs; i++) {
        double start = now();
        run();
        microseconds[i] = now() - start;
    }
    qsort(microseconds, (size_t)runs, sizeof(double), ascending);
    printf("median %.1f us, 90%% within %.1f us, %.0f runs per second\n", microseconds[runs / 2],
           microseconds[(runs - 1) * 9L / 10], 1e6 / microseconds[runs / 2]);
    free(microseconds);
}

static void time_steps(void) {
    uint64_t nanoseconds[@NAME@_STEPS], least[@NAME@_STEPS] = {0};
    double total = 0;
    for (int run = 0; run < PROFILE_RUNS; run++) {
        check(@name@_run_pool_profile(&pool, inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE, nanoseconds));
        for (int i = 0; i < @NAME@_STEPS; i++)
            if (run == 0 || nanoseconds[i] < least[i]) least[i] = nanoseconds[i];
    }
    for (int i = 0; i < @NAME@_STEPS; i++) total += (double)least[i];
    for (int i = 0; i < @NAME@_STEPS; i++)
        printf("%10.1f us %5.1f %%  %s\n", (double)least[i] * 1e-3, 100.0 * (double)least[i] / (total > 0 ? total : 1),
               @name@_step_name(i));
}

int main(int argc, char **argv) {
    int runs = argc > 1 ? atoi(argv[1]) : 100, threads = argc > 2 ? atoi(argv[2]) : 1;
    if (runs < 1 || runs > MAX_RUNS || argc > 3) {
        fprintf(stderr, "usage: bench [runs (1 .. %d) [threads (1 .. %d)]]\n", MAX_RUNS, @NAME@_MAX_THREADS);
        return 2;
    }
    for (int i = 0; i < @NAME@_INPUTS; i++) inputs[i] = allocate(@name@_input(i)->bytes);
    for (int o = 0; o < @NAME@_OUTPUTS; o++) outputs[o] = allocate(@name@_output(o)->bytes);
    workspace = allocate(@NAME@_WORKSPACE_SIZE);
    check(@name@_pool_start(&pool, threads));
    printf("threads: %d\n", @name@_pool_threads(&pool));
    time_runs(runs);
    print_clock();
    time_steps();
    check(@name@_pool_stop(&pool));
    return 0;
}
