/* x86: what the CPU can do, in the names of /proc/cpuinfo, and how a spinning thread rests. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* F(name, leaf, subleaf, register, bit, state): where CPUID shows a feature, and the register state it needs. */
#define CPU_FEATURES(F) \
    F(sse2, 0x1, 0, EDX, 26, NONE) \
    F(pni, 0x1, 0, ECX, 0, NONE) \
    F(ssse3, 0x1, 0, ECX, 9, NONE) \
    F(fma, 0x1, 0, ECX, 12, YMM) \
    F(cx16, 0x1, 0, ECX, 13, NONE) \
    F(sse4_1, 0x1, 0, ECX, 19, NONE) \
    F(sse4_2, 0x1, 0, ECX, 20, NONE) \
    F(movbe, 0x1, 0, ECX, 22, NONE) \
    F(popcnt, 0x1, 0, ECX, 23, NONE) \
    F(avx, 0x1, 0, ECX, 28, YMM) \
    F(f16c, 0x1, 0, ECX, 29, YMM) \
    F(bmi1, 0x7, 0, EBX, 3, NONE) \
    F(avx2, 0x7, 0, EBX, 5, YMM) \
    F(bmi2, 0x7, 0, EBX, 8, NONE) \
    F(avx512f, 0x7, 0, EBX, 16, ZMM) \
    F(avx512dq, 0x7, 0, EBX, 17, ZMM) \
    F(avx512ifma, 0x7, 0, EBX, 21, ZMM) \
    F(avx512cd, 0x7, 0, EBX, 28, ZMM) \
    F(avx512bw, 0x7, 0, EBX, 30, ZMM) \
    F(avx512vl, 0x7, 0, EBX, 31, ZMM) \
    F(avx512vbmi, 0x7, 0, ECX, 1, ZMM) \
    F(avx512_vbmi2, 0x7, 0, ECX, 6, ZMM) \
    F(gfni, 0x7, 0, ECX, 8, NONE) \
    F(avx512_vnni, 0x7, 0, ECX, 11, ZMM) \
    F(avx512_bitalg, 0x7, 0, ECX, 12, ZMM) \
    F(avx512_vpopcntdq, 0x7, 0, ECX, 14, ZMM) \
    F(avx512_fp16, 0x7, 0, EDX, 23, ZMM) \
    F(amx_tile, 0x7, 0, EDX, 24, TILE) \
    F(amx_int8, 0x7, 0, EDX, 25, TILE) \
    F(avx_vnni, 0x7, 1, EAX, 4, YMM) \
    F(avx512_bf16, 0x7, 1, EAX, 5, ZMM) \
    F(lahf_lm, 0x80000001, 0, ECX, 0, NONE) \
    F(abm, 0x80000001, 0, ECX, 5, NONE) \
    F(xop, 0x80000001, 0, ECX, 11, YMM)

#define CPU_INDEX(name, leaf, subleaf, reg, bit, state) CPU_INDEX_##name,
enum { CPU_FEATURES(CPU_INDEX) CPU_COUNT };

/* A set of features is a sum of these. */
#define CPU_FEATURE(name) ((uint64_t)1 << CPU_INDEX_##name)

static inline void cpu_pause(void) {
    __builtin_ia32_pause();
}

#endif
