/* CUDA C++ on a processor: a thread of the device is a fiber, and one block runs at a time.
 *
 * What a device may do in any order happens in an order that changes with every launch: which block and which thread
 * goes on next, and whether a copy that was started arrives at once or when it is waited for. Memory of a block holds
 * garbage when the block starts. Threads of a warp meet in its instructions, and in nothing else. */
#ifndef SHIM_OF_CUDA
#define SHIM_OF_CUDA

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <functional>

#define ANY_DEVICE shim_is_any()
#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define CUDART_INF_F INFINITY
#define CUDART_NAN_F NAN

typedef unsigned char uchar;

struct shim_index {
    unsigned x, y, z;
};
extern struct shim_index threadIdx, blockIdx;
extern int qc_shared[];

/* The number of the next launch, which says in what order things happen; launches count it up. */
extern "C" void shim_order(unsigned number);

/* How many kernels were launched since the number was set. */
extern "C" unsigned shim_launched();

/* For tests of errors. From now on a call of CUDA's runtime fails with an error, or none does where `call` is null; what
 * the last error is that nobody asked for. The capability of the device, which is any at first. Where a pointer lies:
 * the type and device of its attributes. How many bytes at once there are to be had; 0: as many as one likes. */
extern "C" void shim_fail(const char *call, int error);
extern "C" int shim_left();
extern "C" void shim_capability(int major, int minor);
extern "C" void shim_place(const void *pointer, int type, int device);
extern "C" void shim_room(size_t bytes);

/* What a call of the runtime gives; those that a stream in capture forbids are marked. */
int shim_answer(const char *call, int forbidden = 0);
int shim_lacks(size_t bytes, int error);
int shim_forget();
int shim_is_any();
int shim_capability_of(int minor);
void shim_place_of(const void *pointer, int *type, int *device);

/* Work on a stream: done at once, or recorded while the stream is captured. */
struct shim_graph;
void shim_do(const std::function<void()> &work);
void shim_record();
struct shim_graph *shim_recorded();
struct shim_graph *shim_copy(const struct shim_graph *graph);
void shim_replay(const struct shim_graph *graph);
void shim_discard(struct shim_graph *graph);

void shim_run(unsigned blocks, unsigned rows, unsigned threads, size_t shared, void (*kernel)(const void *),
              const void *given);

/* Operands are taken now, as a device takes them, whenever the kernel runs. */
template <typename F, typename... Operands>
static void shim_launch(unsigned blocks, unsigned rows, unsigned threads, size_t shared, F kernel, Operands... operands) {
    auto all = [=] { kernel(operands...); };
    auto each = [](const void *given) { (*(const decltype(all) *)given)(); };
    shim_do([=] { shim_run(blocks, rows, threads, shared, each, &all); });
}

/* The threads of a warp, or of several, meet: the last one does `act` for all of them. what: the instruction, the same in
 * all; lanes: what each gave. */
void shim_meet(const char *what, void *mine, void (*act)(void **lanes), unsigned threads = 32);

#define QC_LAUNCH(kernel, blocks, rows, threads, shared, stream, ...) \
    shim_launch(blocks, rows, threads, shared, [](auto... operands) { kernel(operands...); }, __VA_ARGS__)

void qc_barrier();
uint32_t qc_ballot(int condition);
int qc_exchange(int value, int mask);
int qc_from_int32(int value, int lane);
float qc_from_float32(float value, int lane);
void qc_and_16x8x256(int *d, const uint32_t *a, const uint32_t *b);
void qc_and_64x64x256(int *d, const uint32_t *a, const void *b);
void qc_shown();
void qc_xor_16x8x256(int *d, const uint32_t *a, const uint32_t *b);
void qc_nibbles_16x8x64(int *d, const uint32_t *a, const uint32_t *b);
void qc_bytes_16x8x32(int *d, const uint32_t *a, const uint32_t *b);
void qc_copy_4(void *to, const void *from, int given);
void qc_copy_8(void *to, const void *from, int given);
void qc_copy_16(void *to, const void *from, int given);
void qc_commit();
void qc_wait_0();
void qc_wait_1();

static inline float qc_fence(float x) { return x; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int byte = 0; byte < 32; byte += 8) c += (a >> byte & 255) * (b >> byte & 255);
    return c;
}
static inline int qc_mixed_dot(int a, unsigned b, int total) {
    for (int byte = 0; byte < 32; byte += 8) total += (int8_t)(a >> byte) * (int)(b >> byte & 255);
    return total;
}
static inline int __popc(unsigned word) { return __builtin_popcount(word); }

#endif
