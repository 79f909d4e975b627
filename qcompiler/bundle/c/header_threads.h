#define @NAME@_MAX_THREADS 128

/* Threads that wait for work; storage of the caller, to be left where it is between start and stop. */
typedef union {
    uint64_t alignment;
    unsigned char bytes[4096];
} @name@_pool;

/* Start a pool of `threads` threads, the caller of the runs being one of them (1 .. @NAME@_MAX_THREADS). */
int @name@_pool_start(@name@_pool *pool, int threads);

/* Stop the threads of a pool, after which the storage is free. No run may be under way. */
int @name@_pool_stop(@name@_pool *pool);

/* As @name@_run, @name@_run_batch and @name@_run_profile, on all threads of the pool. Runs on one pool wait for each
 * other. */
int @name@_run_pool(@name@_pool *pool, const void *const *inputs, void *const *outputs, void *workspace,
                    size_t workspace_size);
int @name@_run_batch_pool(@name@_pool *pool, const void *const *inputs, void *const *outputs, void *workspace,
                          size_t workspace_size, size_t count);
int @name@_run_pool_profile(@name@_pool *pool, const void *const *inputs, void *const *outputs, void *workspace,
                            size_t workspace_size, uint64_t *nanoseconds);

