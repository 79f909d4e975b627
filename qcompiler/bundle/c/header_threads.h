#define @NAME@_MAX_THREADS 128

/* Threads that wait for work; storage of the caller, to be left where it is between start and stop. */
typedef union {
    uint64_t alignment;
    unsigned char bytes[4096];
} @name@_pool;

/* Start a pool of `threads` threads (1 .. @NAME@_MAX_THREADS), the caller of the runs being one of them, but of no more than
 * there are processors that the calling thread may run on: more would only wait for one another. Quotas of a container
 * are not known here. Outputs do not depend on the number of threads. */
int @name@_pool_start(@name@_pool *pool, int threads);

/* The same with exactly `threads` threads, however many processors there are. */
int @name@_pool_start_exactly(@name@_pool *pool, int threads);

/* The threads of a pool, the caller of the runs among them; 0 where it is not started. */
int @name@_pool_threads(const @name@_pool *pool);

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

