/* What a network, its steps and its variants are called and measure: the same on processors and devices. */
const char *API(variant_name)(int variant) {
    return variant >= 0 && variant < LIMIT(VARIANTS) ? API(internal_variants)[variant].name : NULL;
}

const TENSOR *API(input)(int index) {
    return index >= 0 && index < LIMIT(INPUTS) ? &API(internal_inputs)[index] : NULL;
}

const TENSOR *API(output)(int index) {
    return index >= 0 && index < LIMIT(OUTPUTS) ? &API(internal_outputs)[index] : NULL;
}

const char *API(step_name)(int index) {
    return index >= 0 && index < LIMIT(STEPS) ? API(internal_step_names)[index] : NULL;
}

size_t API(workspace_size)(void) {
    return LIMIT(WORKSPACE_SIZE);
}

int API(steps)(void) {
    return LIMIT(STEPS);
}
