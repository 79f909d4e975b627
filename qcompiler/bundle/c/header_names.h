/* The name of a variant, or a null pointer. */
const char *@name@_variant_name(int variant);

/* Make all later runs of this process use one variant; -1 goes back to the best one. For tests and comparisons. */
int @name@_select_variant(int variant);

/* What an input, an output, a step or a status is; a null pointer where the index is out of range. The text of a status
 * names the node that failed where the run's data made it fail. */
const @name@_tensor *@name@_input(int index);
const @name@_tensor *@name@_output(int index);
const char *@name@_step_name(int index);
const char *@name@_status_text(int status);

/* @NAME@_WORKSPACE_SIZE and @NAME@_STEPS, for callers that load the library at run time. */
size_t @name@_workspace_size(void);
int @name@_steps(void);
