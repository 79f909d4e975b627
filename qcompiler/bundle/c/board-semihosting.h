/* Files and the console of the machine that emulates or debugs a board, by ARM's semihosting. */
#ifndef SEMIHOSTING_OF_QCOMPILER
#define SEMIHOSTING_OF_QCOMPILER

#include <stddef.h>
#include <stdint.h>

enum { HOST_OPEN = 1, HOST_CLOSE = 2, HOST_WRITE = 5, HOST_READ = 6, HOST_SEEK = 10, HOST_TIME = 17, HOST_ARGUMENTS = 21,
       HOST_EXIT = 32 };
/* As fopen's "rb", "r+b", "w" and "ab"; the file ":tt" is the console. */
enum { HOST_FOR_READING = 1, HOST_FOR_UPDATES = 3, HOST_FOR_WRITING = 4, HOST_FOR_APPENDING = 9 };

/* A request with the words at `block`; the answer is the host's. */
static inline intptr_t host_call(int request, const void *block) {
    register intptr_t r0 __asm__("r0") = request;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* A handle, or -1. */
static inline intptr_t host_open(const char *path, uintptr_t mode) {
    size_t length = 0;
    while (path[length]) length++;
    uintptr_t block[] = {(uintptr_t)path, mode, length};
    return host_call(HOST_OPEN, block);
}

static inline void host_close(intptr_t file) {
    host_call(HOST_CLOSE, &file);
}

/* How many bytes were not read or written. */
static inline size_t host_transfer(int request, intptr_t file, const void *data, size_t bytes) {
    uintptr_t block[] = {(uintptr_t)file, (uintptr_t)data, bytes};
    return (size_t)host_call(request, block);
}

static inline void host_seek(intptr_t file, size_t offset) {
    uintptr_t block[] = {(uintptr_t)file, offset};
    host_call(HOST_SEEK, block);
}

/* Seconds. */
static inline uint32_t host_time(void) {
    return (uint32_t)host_call(HOST_TIME, 0);
}

/* The command line, in `size` bytes; empty where there is none. */
static inline void host_arguments(char *text, size_t size) {
    uintptr_t block[] = {(uintptr_t)text, size};
    if (host_call(HOST_ARGUMENTS, block)) text[0] = 0;
}

static inline __attribute__((noreturn)) void host_exit(int status) {
    static const uintptr_t application_exit = 0x20026;
    uintptr_t block[] = {application_exit, (uintptr_t)status};
    for (;;) host_call(HOST_EXIT, block);
}

#endif
