/* Apple's 64-bit ARM, in the names of Linux's /proc/cpuinfo, and under which name the system tells of each. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* Headers of Apple's C library are in Apple's kit alone: nothing of it is used but what compilers call themselves. */
#define CPU_WITHOUT_CLOCK
#define CPU_WITHOUT_THREADS

/* F(name, known_as): every processor has what is known by no name. */
#define CPU_FEATURES(F) \
    F(asimd, NULL) \
    F(asimddp, "hw.optional.arm.FEAT_DotProd")

#define CPU_INDEX(name, known_as) CPU_INDEX_##name,
enum { CPU_FEATURES(CPU_INDEX) CPU_COUNT };

/* A set of features is a sum of these. */
#define CPU_FEATURE(name) ((uint64_t)1 << CPU_INDEX_##name)

#endif
