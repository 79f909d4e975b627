/* A pool of threads that share the steps of a run. The only source that needs pthreads. */
/* Which processors a thread may run on is no part of POSIX: names of glibc, musl and bionic, and of Apple. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _DARWIN_C_SOURCE

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "all-internals.h"

enum {
    PAUSES = 100,     /* spins, a few microseconds, before a waiting thread offers its processor to others */
    IDLE_SPINS = 500, /* spins and offers between runs, a few hundred microseconds, before a worker sleeps */
    CACHE_LINE = 64
};

static const uint64_t STARTED = 0x71636f6du;

/* The counters that threads spin on have cache lines of their own. */
struct pool {
    struct job job;
    uint64_t state;
    int threads;
    int stopping;
    pthread_mutex_t turn;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t handles[LIMIT(MAX_THREADS)];
    unsigned char apart0[CACHE_LINE];
    atomic_uint run;
    atomic_int sleeping;
    unsigned char apart1[CACHE_LINE];
    atomic_uint phase;
    unsigned char apart2[CACHE_LINE];
    atomic_int arrived;
    atomic_int next_part;
};

_Static_assert(sizeof(struct pool) <= sizeof(POOL), "the public pool storage is too small");

/* On a processor that another thread of the run needs, spinning alone would keep that thread from arriving. */
static void spin(int spins) {
    if (spins < PAUSES)
        cpu_pause();
    else
        sched_yield();
}

/* A barrier: the last to arrive opens the next phase, the others watch for it. The job is the pool's first member. */
static void meet(struct job *job) {
    struct pool *pool = (struct pool *)(void *)job;
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&pool->phase, memory_order_acquire) == phase; spins += spins < PAUSES)
        spin(spins);
}

/* Wait until the run counter has left `seen`: awake for a while, then asleep. */
static unsigned await_run(struct pool *pool, unsigned seen) {
    unsigned run = seen;
    for (int spins = 0; spins < IDLE_SPINS; spins++) {
        run = atomic_load_explicit(&pool->run, memory_order_acquire);
        if (run != seen) return run;
        spin(spins);
    }
    pthread_mutex_lock(&pool->mutex);
    /* Sequentially consistent, as in announce_run: either the caller sees a sleeper, or the sleeper sees the run. */
    atomic_fetch_add(&pool->sleeping, 1);
    while ((run = atomic_load(&pool->run)) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->mutex);
    return run;
}

static void announce_run(struct pool *pool) {
    atomic_fetch_add(&pool->run, 1);
    if (atomic_load(&pool->sleeping) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *argument) {
    struct pool *pool = argument;
    int part = atomic_fetch_add(&pool->next_part, 1);
    unsigned run = 0;
    for (;;) {
        run = await_run(pool, run);
        if (pool->stopping) return NULL;
        API(internal_execute)(&pool->job, part);
    }
}

static void stop_workers(struct pool *pool, int started) {
    pool->stopping = 1;
    announce_run(pool);
    for (int i = 0; i < started; i++) pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->turn);
    pool->state = 0;
}

/* Workers take no signals: those belong to the program's own threads. */
static int start_workers(struct pool *pool) {
    sigset_t all, before;
    int started = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < pool->threads - 1 && pthread_create(&pool->handles[started], NULL, work, pool) == 0) started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* Processors that the calling thread may run on, and as many as a pool can have where that is not known. A set that has
 * no room for all processors of a machine is refused: it holds more of them than a pool has threads. */
static int processors(void) {
    long count = 0;
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (int processor = 0; processor < CPU_SETSIZE; processor++) count += CPU_ISSET(processor, &allowed) != 0;
#elif defined(_SC_NPROCESSORS_ONLN)
    count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count > 0 ? (int)count : LIMIT(MAX_THREADS);
}

ONE_COPY static int start(POOL *storage, int threads, int most) {
    struct pool *pool = (struct pool *)(void *)storage;
    if (!pool) return LIMIT(ERROR_NULL);
    if (threads < 1 || threads > LIMIT(MAX_THREADS)) return LIMIT(ERROR_RANGE);
    if (threads > most) threads = most;
    memset(pool, 0, sizeof *pool);
    pool->threads = threads;
    atomic_init(&pool->next_part, 1);
    if (pthread_mutex_init(&pool->turn, NULL) != 0) return LIMIT(ERROR_THREADS);
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) return LIMIT(ERROR_THREADS);
    if (pthread_cond_init(&pool->wake, NULL) != 0) return LIMIT(ERROR_THREADS);
    int started = start_workers(pool);
    if (started < threads - 1) {
        stop_workers(pool, started);
        return LIMIT(ERROR_THREADS);
    }
    pool->state = STARTED;
    return LIMIT(OK);
}

int API(pool_start_exactly)(POOL *storage, int threads) {
    return start(storage, threads, LIMIT(MAX_THREADS));
}

/* Threads that share a processor wait for one another at every step: a run on more threads than processors takes several
 * times as long as on as many. */
int API(pool_start)(POOL *storage, int threads) {
    return start(storage, threads, processors());
}

int API(pool_threads)(const POOL *storage) {
    const struct pool *pool = (const struct pool *)(const void *)storage;
    return pool && pool->state == STARTED ? pool->threads : 0;
}

int API(pool_stop)(POOL *storage) {
    struct pool *pool = (struct pool *)(void *)storage;
    if (!pool) return LIMIT(ERROR_NULL);
    if (pool->state != STARTED) return LIMIT(ERROR_POOL);
    stop_workers(pool, pool->threads - 1);
    return LIMIT(OK);
}

static int run_job(struct pool *pool, const void *const *inputs, void *const *outputs, void *workspace,
                   size_t workspace_size, uint64_t *nanoseconds) {
    int status = API(internal_prepare)(&pool->job, inputs, outputs, workspace, workspace_size);
    if (status != LIMIT(OK)) return status;
    pool->job.nanoseconds = nanoseconds;
    pool->job.parts = pool->threads;
    if (pool->threads > 1) {
        pool->job.meet = meet;
        announce_run(pool);
    }
    API(internal_execute)(&pool->job, 0);
    return API(internal_failed)(&pool->job);
}

ONE_COPY static int run_in_turn(POOL *storage, const void *const *inputs, void *const *outputs, void *workspace,
                                size_t workspace_size, uint64_t *nanoseconds) {
    struct pool *pool = (struct pool *)(void *)storage;
    if (!pool) return LIMIT(ERROR_NULL);
    if (pool->state != STARTED) return LIMIT(ERROR_POOL);
    pthread_mutex_lock(&pool->turn);
    int status = run_job(pool, inputs, outputs, workspace, workspace_size, nanoseconds);
    pthread_mutex_unlock(&pool->turn);
    return status;
}

int API(run_pool)(POOL *pool, const void *const *inputs, void *const *outputs, void *workspace,
                  size_t workspace_size) {
    return run_in_turn(pool, inputs, outputs, workspace, workspace_size, NULL);
}

static int run_one(void *pool, const void *const *inputs, void *const *outputs, void *workspace,
                   size_t workspace_size) {
    return run_in_turn(pool, inputs, outputs, workspace, workspace_size, NULL);
}

int API(run_batch_pool)(POOL *pool, const void *const *inputs, void *const *outputs, void *workspace,
                        size_t workspace_size, size_t count) {
    return API(internal_batch)(run_one, pool, inputs, outputs, workspace, workspace_size, count);
}

int API(run_pool_profile)(POOL *pool, const void *const *inputs, void *const *outputs, void *workspace,
                          size_t workspace_size, uint64_t *nanoseconds) {
    if (!nanoseconds) return LIMIT(ERROR_NULL);
    return run_in_turn(pool, inputs, outputs, workspace, workspace_size, nanoseconds);
}
