/* WebAssembly: a module of each variant, which an engine without the features does not load. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* A module asks its host for nothing, the time included: who runs it takes the time of steps. */
#define CPU_WITHOUT_CLOCK

/* F(name): the features that modules are made for. */
#define CPU_FEATURES(F) \
    F(simd128,)

#define CPU_INDEX(name, unused) CPU_INDEX_##name,
enum { CPU_FEATURES(CPU_INDEX) CPU_COUNT };

/* A set of features is a sum of these. */
#define CPU_FEATURE(name) ((uint64_t)1 << CPU_INDEX_##name)

#endif
