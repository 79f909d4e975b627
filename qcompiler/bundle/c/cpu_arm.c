/* ARM: the kernel says in the auxiliary vector which features the CPU has and the system supports. */
#include "all-internals.h"

#include <sys/auxv.h>

enum { HWCAP = 16, HWCAP2 = 26 }; /* AT_HWCAP and AT_HWCAP2, which a libc may also define as macros */

struct feature {
    uint8_t pointer, vector, bit;
};

#define ROW(name, pointer, vector, bit) {pointer, vector, bit},
static const struct feature features[] = {CPU_FEATURES(ROW)};

uint64_t API(internal_cpu_features)(void) {
    uint64_t set = 0;
    for (int i = 0; i < CPU_COUNT; i++)
        if (features[i].pointer == sizeof(void *) && getauxval(features[i].vector) >> features[i].bit & 1)
            set |= (uint64_t)1 << i;
    return set;
}
