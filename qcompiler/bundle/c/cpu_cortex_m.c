/* Cortex-M: the library was linked for the core that it is for. */
#include "all-internals.h"

uint64_t API(internal_cpu_features)(void) {
    return UINT64_MAX;
}
