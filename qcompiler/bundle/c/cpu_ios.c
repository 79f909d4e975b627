/* Apple's systems tell by name which features the CPU has; those that are unknown to them it has not. */
#include "all-internals.h"

/* of <sys/sysctl.h>, which is in no kit but Apple's */
extern int sysctlbyname(const char *name, void *value, size_t *size, void *changed, size_t changed_size);

#define ROW(name, known_as) known_as,
static const char *const features[] = {CPU_FEATURES(ROW)};

static int present(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return !name || (sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0);
}

uint64_t API(internal_cpu_features)(void) {
    uint64_t set = 0;
    for (int i = 0; i < CPU_COUNT; i++)
        if (present(features[i])) set |= (uint64_t)1 << i;
    return set;
}
