/* WebAssembly: code that runs was loaded, so the engine has what it needs. */
#include "all-internals.h"

uint64_t API(internal_cpu_features)(void) {
    return UINT64_MAX;
}
