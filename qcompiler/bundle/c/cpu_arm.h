/* ARM, 64-bit and 32-bit: what the CPU can do, in the names of /proc/cpuinfo, and how a spinning thread rests. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* F(name, pointer, vector, bit): the pointer size of the code it concerns, and where the kernel shows the feature. */
#define CPU_FEATURES(F) \
    F(asimd, 8, HWCAP, 1) \
    F(asimdhp, 8, HWCAP, 10) \
    F(asimddp, 8, HWCAP, 20) \
    F(sve, 8, HWCAP, 22) \
    F(i8mm, 8, HWCAP2, 13) \
    F(neon, 4, HWCAP, 12) \
    F(vfpv4, 4, HWCAP, 16)

#define CPU_INDEX(name, pointer, vector, bit) CPU_INDEX_##name,
enum { CPU_FEATURES(CPU_INDEX) CPU_COUNT };

/* A set of features is a sum of these. */
#define CPU_FEATURE(name) ((uint64_t)1 << CPU_INDEX_##name)

static inline void cpu_pause(void) {
    __asm__ volatile("yield");
}

#endif
