/* x86: ask CPUID for the features, XGETBV whether the system saves the registers they use, and Linux for the use of
 * those of tiles, which it saves only for processes that asked. */
#include <cpuid.h>

#include "all-internals.h"

enum { EAX, EBX, ECX, EDX, REGISTERS };
enum { NONE = 0x0, YMM = 0x6, ZMM = 0xe6, TILE = 0x60000 };
enum { OSXSAVE = 1 << 27 };
enum { ARCH_PRCTL = 158, ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };

struct feature {
    uint32_t leaf, state;
    uint8_t subleaf, reg, bit;
};

#define ROW(name, leaf, subleaf, reg, bit, state) {leaf, state, subleaf, reg, bit},
static const struct feature features[] = {CPU_FEATURES(ROW)};

_Static_assert(CPU_COUNT < 63, "a set of features no longer fits beside the flag");
static const uint64_t KNOWN = (uint64_t)1 << 63;

static uint32_t enabled_state(void) {
    uint32_t registers[REGISTERS], low, high;
    if (!__get_cpuid(1, &registers[EAX], &registers[EBX], &registers[ECX], &registers[EDX])) return 0;
    if (!(registers[ECX] & OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int may_use_tiles(void) {
#ifdef __linux__
    long failure;
    __asm__ volatile("syscall"
                     : "=a"(failure)
                     : "a"((long)ARCH_PRCTL), "D"((long)ARCH_REQ_XCOMP_PERM), "S"((long)TILE_DATA)
                     : "rcx", "r11", "memory");
    return failure == 0;
#else
    return 0;
#endif
}

static int present(const struct feature *feature, uint32_t state) {
    uint32_t registers[REGISTERS];
    if ((state & feature->state) != feature->state) return 0;
    if (!__get_cpuid_count(feature->leaf, feature->subleaf, &registers[EAX], &registers[EBX], &registers[ECX],
                           &registers[EDX]))
        return 0;
    return (registers[feature->reg] >> feature->bit & 1) && (feature->state != TILE || may_use_tiles());
}

/* The features that any variant of the network needs. */
static uint64_t wanted(void) {
    uint64_t set = 0;
    for (int variant = 0; variant < LIMIT(VARIANTS); variant++) set |= API(internal_variants)[variant].features;
    return set;
}

/* Asked once: CPUID traps into the hypervisor of a virtual machine. Threads that race here store the same set. */
uint64_t API(internal_cpu_features)(void) {
    static _Atomic uint64_t cached;
    uint64_t set = atomic_load_explicit(&cached, memory_order_relaxed);
    if (set & KNOWN) return set;
    uint64_t asked = wanted();
    uint32_t state = enabled_state();
    for (int i = 0; i < CPU_COUNT; i++)
        if ((asked >> i & 1) && present(&features[i], state)) set |= (uint64_t)1 << i;
    atomic_store_explicit(&cached, set | KNOWN, memory_order_relaxed);
    return set | KNOWN;
}
