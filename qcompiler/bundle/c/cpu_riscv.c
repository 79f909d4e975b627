/* RISC-V: extensions of one letter are in the auxiliary vector, others are asked of kernels since 6.4. */
#include "all-internals.h"

#include <sys/auxv.h>

enum { HWCAP = 16, HWPROBE = 258, EXTENSIONS = 4, AUXILIARY = 0, PROBED = 1, SOURCES = 2 };

struct feature {
    uint8_t source, bit;
};

/* A question of riscv_hwprobe, and its answer. */
struct probe {
    int64_t key;
    uint64_t value;
};

/* The system call riscv_hwprobe on one question; 0 where the kernel knows it. */
static long ask(struct probe *probe) {
    register long a0 __asm__("a0") = (long)(intptr_t)probe;
    register long a1 __asm__("a1") = 1, a2 __asm__("a2") = 0, a3 __asm__("a3") = 0, a4 __asm__("a4") = 0;
    register long a7 __asm__("a7") = HWPROBE;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a7) : "memory");
    return a0;
}

#define ROW(name, source, bit) {source, bit},
static const struct feature features[] = {CPU_FEATURES(ROW)};

uint64_t API(internal_cpu_features)(void) {
    struct probe probe = {EXTENSIONS, 0};
    /* a kernel that knows the call and not the question puts -1 into the key */
    int known = ask(&probe) == 0 && probe.key == EXTENSIONS;
    const uint64_t shown[SOURCES] = {getauxval(HWCAP), known ? probe.value : 0};
    uint64_t set = 0;
    for (int i = 0; i < CPU_COUNT; i++)
        if (shown[features[i].source] >> features[i].bit & 1) set |= (uint64_t)1 << i;
    return set;
}
