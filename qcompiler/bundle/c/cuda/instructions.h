/* What kernels call: one instruction of the device each, where C++ has no operator for it.
 *
 * Registers of tensor cores are spread over a warp as the PTX manual says; d, a and b point to those of one thread.
 * Under a compiler of the host, shim/shim.h defines the same functions on all threads of a warp. */
#ifndef INSTRUCTIONS_OF_QCOMPILER
#define INSTRUCTIONS_OF_QCOMPILER

/* From what the first of several runs has at a pointer to what the run of this block has there: each has as many bytes, one
 * run behind the other. A run has the blocks of one row of the grid. */
#define QC_OF_RUN(pointer, bytes) pointer += (size_t)blockIdx.y * ((bytes) / sizeof *(pointer))

/* Threads of a block. On sm_100 nvcc 13.0 keeps registers in memory for the sake of more blocks, unless it is told that one
 * at a time will do. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 1000
#define QC_LAUNCH_BOUNDS(threads) __launch_bounds__(threads, 1)
#else
#define QC_LAUNCH_BOUNDS(threads) __launch_bounds__(threads)
#endif

#ifdef __CUDACC__

#include <math_constants.h>
#include <stdint.h>

typedef unsigned char uchar;

#define QC_DEVICE static __device__ __forceinline__
#define QC_ALL 0xffffffffu

#define QC_LAUNCH(kernel, blocks, runs, threads, shared, stream, ...) \
    kernel<<<dim3(blocks, runs), dim3(threads), shared, stream>>>(__VA_ARGS__)

/* All threads of the block wait for one another. */
QC_DEVICE void qc_barrier() {
    __syncthreads();
}

/* A number that the compiler of kernels cannot see through; that of the device may, and rounds as it should. */
QC_DEVICE float qc_fence(float x) {
    return x;
}

/* Bit i: the condition in thread i of the warp. */
QC_DEVICE uint32_t qc_ballot(int condition) {
    return __ballot_sync(QC_ALL, condition);
}

/* The value that the thread holds whose number differs in the bits of `mask`. */
QC_DEVICE int qc_exchange(int value, int mask) {
    return __shfl_xor_sync(QC_ALL, value, mask);
}

/* The value that a thread of the warp holds. */
QC_DEVICE int qc_from_int32(int value, int lane) {
    return __shfl_sync(QC_ALL, value, lane);
}

QC_DEVICE float qc_from_float32(float value, int lane) {
    return __shfl_sync(QC_ALL, value, lane);
}

/* total, and the products of four bytes with a sign and four without. */
QC_DEVICE int qc_mixed_dot(int a, uint32_t b, int total) {
    int d;
    asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(total));
    return d;
}

/* d[16, 8] += number of bits that are set in row i of a[16, 256] and in column j of b[256, 8]. */
QC_DEVICE void qc_and_16x8x256(int *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* d[64, 64] += number of bits that are set in row i of a[64, 256] and in column j of b[256, 64], by four warps of which
 * each has 16 rows as above; b is memory of the block, in blocks of 8 columns of 16 bytes: two of them are the 32 bytes of
 * 8 columns, then come the next 8 (PTX, "matrix descriptor": no swizzle, 128 bytes from block to block of one column, 256
 * from one column to that 8 further). The product is there when the function returns. */
QC_DEVICE void qc_and_64x64x256(int *d, const uint32_t *a, const void *b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    unsigned at = (unsigned)__cvta_generic_to_shared(b);
    uint64_t described = (uint64_t)(at >> 4 & 0x3fff) | (uint64_t)(128 >> 4) << 16 | (uint64_t)(256 >> 4) << 32;
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.fence.sync.aligned; "
                 "wgmma.mma_async.sync.aligned.m64n64k256.s32.b1.b1.and.popc "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p; "
                 "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; }"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]),
                   "+r"(d[6]), "+r"(d[7]), "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]),
                   "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]), "+r"(d[17]),
                   "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]),
                   "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]),
                   "+r"(d[30]), "+r"(d[31])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(described)
                 : "memory");
#endif
}

/* What this thread has copied to memory of the block can be seen by what is not its own instructions. */
QC_DEVICE void qc_shown() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* d[8, 8] += what one instruction of sm_75 makes of a quarter of the operands. */
#define QC_QUARTER(text, d, a, b)                                                                                      \
    asm volatile(text " {%0, %1}, {%2}, {%3}, {%0, %1};" : "+r"((d)[0]), "+r"((d)[1]) : "r"(a), "r"(b))

/* d[16, 8] += number of bits in which row i of a[16, 256] and column j of b[256, 8] differ. */
QC_DEVICE void qc_xor_16x8x256(int *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ < 800
#define QC_XOR "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc"
    QC_QUARTER(QC_XOR, d, a[0], b[0]);
    QC_QUARTER(QC_XOR, d, a[2], b[1]);
    QC_QUARTER(QC_XOR, d + 2, a[1], b[0]);
    QC_QUARTER(QC_XOR, d + 2, a[3], b[1]);
#endif
}

/* d[16, 8] += a[16, 64] * b[64, 8], of four bits without a sign. Later parts emulate it. */
QC_DEVICE void qc_nibbles_16x8x64(int *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k64.row.col.s32.u4.u4.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#define QC_NIBBLES "mma.sync.aligned.m8n8k32.row.col.s32.u4.u4.s32"
    QC_QUARTER(QC_NIBBLES, d, a[0], b[0]);
    QC_QUARTER(QC_NIBBLES, d, a[2], b[1]);
    QC_QUARTER(QC_NIBBLES, d + 2, a[1], b[0]);
    QC_QUARTER(QC_NIBBLES, d + 2, a[3], b[1]);
#endif
}

/* d[16, 8] += a[16, 32] * b[32, 8], bytes without a sign. */
QC_DEVICE void qc_bytes_16x8x32(int *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#define QC_BYTES "mma.sync.aligned.m8n8k16.row.col.s32.u8.u8.s32"
    QC_QUARTER(QC_BYTES, d, a[0], b[0]);
    QC_QUARTER(QC_BYTES, d, a[2], b[1]);
    QC_QUARTER(QC_BYTES, d + 2, a[1], b[0]);
    QC_QUARTER(QC_BYTES, d + 2, a[3], b[1]);
#endif
}

/* Start to copy words from memory of the device to memory of the block, or zeros in their place; given: the bytes of T,
 * or 0. sm_75, which cannot start copies, copies at once. */
template <typename T> QC_DEVICE void qc_copy(void *to, const void *from, int given) {
#if __CUDA_ARCH__ >= 800
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(sizeof(T)), "r"(given)
                 : "memory");
#else
    *(T *)to = given ? *(const T *)from : T{};
#endif
}

QC_DEVICE void qc_copy_4(void *to, const void *from, int given) {
    qc_copy<uint32_t>(to, from, given);
}

QC_DEVICE void qc_copy_8(void *to, const void *from, int given) {
    qc_copy<uint2>(to, from, given);
}

QC_DEVICE void qc_copy_16(void *to, const void *from, int given) {
    qc_copy<uint4>(to, from, given);
}

/* What this thread has started to copy since the last call is a group. */
QC_DEVICE void qc_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Wait until at most one group, or none, of this thread is under way. */
QC_DEVICE void qc_wait_1() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
}

QC_DEVICE void qc_wait_0() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group 0;" ::: "memory");
#endif
}

#endif

#endif
