/*
 * Runs steps of the network @name@ for another process, in memory that both share through a file.
 *
 *     isolated FILE GUARD PAGES SLACK ...
 *
 * For each input, each output and the workspace: PAGES bytes of the file in whole pages, and SLACK bytes of them more
 * than the buffer needs. GUARD bytes of addresses before and behind them may not be touched by any code. The pages of
 * inputs are read-only. A request is a line "variant threads first last at_start seconds": the buffers begin with
 * their pages, or SLACK bytes into them, where they end with their pages. On a device, which has no threads of the host, so
 * many runs are launched together instead; their buffers lie one behind the other. The answer is a line "status NUMBER TEXT", or
 * "fault SIGNAL OFFSET" with the touched address, counted from the first guard on, or -1 where it is far from there.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "@name@.h"

enum { BUFFERS = @NAME@_INPUTS + @NAME@_OUTPUTS + 1, NUMBERS = 2, SIGNAL_STACK = 65536 };

static size_t sizes[BUFFERS][NUMBERS];
static unsigned char *pages[BUFFERS];
static unsigned char *reserved;
static size_t guard, reserved_bytes;
#ifdef @NAME@_MAX_THREADS
static @name@_pool pool;
static int pool_threads;
#endif

static void report(int signal, siginfo_t *info, void *context) {
    char line[64];
    size_t touched = (uintptr_t)info->si_addr - (uintptr_t)reserved;
    long long offset = touched < reserved_bytes ? (long long)touched : -1;
    int length = snprintf(line, sizeof line, "fault %d %lld\n", signal, offset);
    (void)context;
    _exit(write(STDOUT_FILENO, line, (size_t)length) == length ? 1 : 2);
}

/* On a stack of its own, for a kernel may have used up the other. */
static void watch_faults(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static unsigned char memory[SIGNAL_STACK];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigaction(faults[i], &action, NULL);
}

static int map(const char *path) {
    int file = open(path, O_RDWR);
    unsigned char *next;
    off_t offset = 0;
    if (file < 0) return 0;
    reserved_bytes = guard;
    for (int i = 0; i < BUFFERS; i++) reserved_bytes += sizes[i][0] + guard;
    reserved = mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return 0;
    next = reserved + guard;
    for (int i = 0; i < BUFFERS; i++) {
        int access = i < @NAME@_INPUTS ? PROT_READ : PROT_READ | PROT_WRITE;
        pages[i] = next;
        if (mmap(next, sizes[i][0], access, MAP_SHARED | MAP_FIXED, file, offset) == MAP_FAILED) return 0;
        next += sizes[i][0] + guard;
        offset += (off_t)sizes[i][0];
    }
    return 1;
}

#ifdef @NAME@_MAX_THREADS
/* Exactly so many, for how a step falls into parts is verified wherever a network is compiled. */
static int use_pool(int threads) {
    if (pool_threads == threads) return @NAME@_OK;
    if (pool_threads > 0) @name@_pool_stop(&pool);
    pool_threads = threads;
    return @name@_pool_start_exactly(&pool, threads);
}
#endif

/* All steps where there are several threads: a pool runs nothing less. */
static int run(int threads, int first, int last, int at_start) {
    unsigned char *at[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) at[i] = pages[i] + (at_start ? 0 : sizes[i][1]);
    const void *const *inputs = (const void *const *)at;
    void *const *outputs = (void *const *)(at + @NAME@_INPUTS);
    void *workspace = at[BUFFERS - 1];
#ifdef @NAME@_MAX_THREADS
    int status = threads == 1 ? @NAME@_OK : use_pool(threads);
    if (status != @NAME@_OK) return status;
    if (threads > 1) return @name@_run_pool(&pool, inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE);
#else
    size_t runs = (size_t)threads;
    if (threads > 1) return @name@_run_batch(inputs, outputs, workspace, runs * @NAME@_WORKSPACE_SIZE, runs);
#endif
    return @name@_run_steps(inputs, outputs, workspace, @NAME@_WORKSPACE_SIZE, first, last);
}

int main(int argc, char **argv) {
    int variant, threads, first, last, at_start;
    unsigned seconds;
    if (argc != 3 + BUFFERS * NUMBERS) return 1;
    guard = (size_t)strtoull(argv[2], NULL, 10);
    for (int i = 0; i < BUFFERS * NUMBERS; i++)
        sizes[i / NUMBERS][i % NUMBERS] = (size_t)strtoull(argv[3 + i], NULL, 10);
    if (!map(argv[1])) return 1;
    watch_faults();
    while (scanf("%d %d %d %d %d %u", &variant, &threads, &first, &last, &at_start, &seconds) == 6) {
        alarm(seconds);
        int status = @name@_select_variant(variant);
        if (status == @NAME@_OK) status = run(threads, first, last, at_start);
        const char *text = @name@_status_text(status);
        alarm(0);
        printf("status %d ", status);
        /* names of nodes may hold anything, but an answer is one line */
        for (; text && *text; text++) putchar(*text == '\n' ? ' ' : *text);
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
