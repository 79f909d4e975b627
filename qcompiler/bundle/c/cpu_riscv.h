/* RISC-V: what the CPU can do beyond RV64GC, in the names of /proc/cpuinfo, and how a spinning thread rests. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* F(name, source, bit): where the kernel shows the feature. */
#define CPU_FEATURES(F) \
    F(v, AUXILIARY, 21) \
    F(zbb, PROBED, 4)

#define CPU_INDEX(name, source, bit) CPU_INDEX_##name,
enum { CPU_FEATURES(CPU_INDEX) CPU_COUNT };

/* A set of features is a sum of these. */
#define CPU_FEATURE(name) ((uint64_t)1 << CPU_INDEX_##name)

/* The instruction pause, of which processors without it make nothing. */
static inline void cpu_pause(void) {
    __asm__ volatile(".word 0x0100000f");
}

#endif
