/* The status of a run in which a step failed holds the error above and the index of the step (-1: no step). The outputs
 * are undefined then. */
#define @NAME@_STATUS_ERROR(status) ((status) % 256)
#define @NAME@_STATUS_STEP(status) ((status) / 256 - 1)

/* One input or output: rows of `shape` in C order, `bytes` in all. `dtype` is a numpy name such as "float32". */
typedef struct {
    const char *name;
    const char *dtype;
    const int64_t *shape;
    int rank;
    size_t bytes;
} @name@_tensor;
