/* What a device reaches at most: population counts, and tensor cores on bits and bytes, out of registers alone.
 *
 * peaks_measure gives multiply-adds per second, or a negative error of CUDA. Every thread (group) has several sums that
 * do not wait for one another. */
#include <cuda_runtime.h>
#include <stdint.h>

enum { THREADS = 256, ROUNDS = 4096, SUMS = 8 };

__global__ void counts(uint32_t *out, uint32_t seed) {
    uint32_t sums[SUMS], word = seed + threadIdx.x;
    for (int i = 0; i < SUMS; i++) sums[i] = word * (2 * i + 3);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SUMS; i++) sums[i] += __popc(sums[i] ^ word);
    uint32_t all = 0;
    for (int i = 0; i < SUMS; i++) all += sums[i];
    if (all == seed) out[0] = all;
}

#define MMA(NAME, TEXT)                                                                                            \
    __global__ void NAME(uint32_t *out, uint32_t seed) {                                                           \
        int d[SUMS][4] = {};                                                                                       \
        uint32_t a = seed + threadIdx.x, b = seed ^ threadIdx.x;                                                   \
        for (int round = 0; round < ROUNDS; round++)                                                               \
            for (int i = 0; i < SUMS; i++)                                                                         \
                asm volatile(TEXT " {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%5, %5}, {%0, %1, %2, %3};"              \
                             : "+r"(d[i][0]), "+r"(d[i][1]), "+r"(d[i][2]), "+r"(d[i][3])                          \
                             : "r"(a), "r"(b));                                                                    \
        int all = 0;                                                                                               \
        for (int i = 0; i < SUMS; i++) all += d[i][0] + d[i][1] + d[i][2] + d[i][3];                              \
        if (all == (int)seed) out[0] = all;                                                                        \
    }

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
MMA(bits, "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc")
MMA(bytes, "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32")
/* later parts emulate it */
MMA(nibbles, "mma.sync.aligned.m16n8k64.row.col.s32.u4.u4.s32")
#else
__global__ void nibbles(uint32_t *, uint32_t) {}
__global__ void bits(uint32_t *, uint32_t) {}
__global__ void bytes(uint32_t *, uint32_t) {}
#endif

/* d[64, 128] += a[64, 256] and b[256, 128], of a group of four warps, out of the memory of the block. */
__global__ void wide_bits(uint32_t *out, uint32_t seed) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(1024) uint32_t held[(64 + 128) * 8];
    for (int i = threadIdx.x; i < (64 + 128) * 8; i += THREADS) held[i] = seed + i;
    __syncthreads();
    unsigned at = (unsigned)__cvta_generic_to_shared(held);
    /* no swizzle: core matrices of 8 rows of 16 bytes, 128 bytes apart in both directions; see PTX, "matrix descriptor" */
    auto described = [](unsigned address) {
        return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(128 >> 4) << 16 | (uint64_t)(256 >> 4) << 32;
    };
    uint64_t a = described(at), b = described(at + 64 * 32);
    int d[64] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int round = 0; round < ROUNDS; round++) {
        asm volatile(
            "{ .reg .pred p; setp.ne.b32 p, 1, 0; "
            "wgmma.mma_async.sync.aligned.m64n128k256.s32.b1.b1.and.popc "
            "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
            "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
            "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
            "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
            "%64, %65, p; }"
            : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]),
              "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]),
              "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]),
              "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]),
              "+r"(d[32]), "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]), "+r"(d[37]), "+r"(d[38]), "+r"(d[39]),
              "+r"(d[40]), "+r"(d[41]), "+r"(d[42]), "+r"(d[43]), "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]),
              "+r"(d[48]), "+r"(d[49]), "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]),
              "+r"(d[56]), "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]), "+r"(d[63])
            : "l"(a), "l"(b));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    int all = 0;
    for (int i = 0; i < 64; i++) all += d[i];
    if (all == (int)seed) out[0] = all;
#endif
}

struct peak {
    void (*kernel)(uint32_t *, uint32_t);
    /* of a block, and the capability that it needs; exact: no other will do */
    double macs;
    int major, exact;
};

static const peak PEAKS[] = {
    {counts, (double)THREADS * ROUNDS * SUMS * 32, 7, 0},
    {bits, (double)THREADS / 32 * ROUNDS * SUMS * 16 * 8 * 256, 8, 0},
    {bytes, (double)THREADS / 32 * ROUNDS * SUMS * 16 * 8 * 32, 8, 0},
    {wide_bits, (double)THREADS / 128 * ROUNDS * 64 * 128 * 256, 9, 1},
    {nibbles, (double)THREADS / 32 * ROUNDS * SUMS * 16 * 8 * 64, 8, 1},
};

static double measured(const peak &each, int blocks) {
    uint32_t *out;
    cudaEvent_t before, after;
    float milliseconds = 0;
    cudaMalloc(&out, sizeof *out);
    cudaEventCreate(&before);
    cudaEventCreate(&after);
    each.kernel<<<blocks, THREADS>>>(out, 12345);
    cudaEventRecord(before);
    each.kernel<<<blocks, THREADS>>>(out, 12345);
    cudaEventRecord(after);
    cudaDeviceSynchronize();
    cudaEventElapsedTime(&milliseconds, before, after);
    cudaEventDestroy(before);
    cudaEventDestroy(after);
    cudaFree(out);
    cudaError_t error = cudaGetLastError();
    return error ? -(double)error : each.macs * blocks / (milliseconds * 1e-3);
}

/* which: 0 population counts, 1 b1 mma, 2 u8 mma, 3 b1 wgmma, 4 u4 mma; 0 where the device has no such instruction. */
extern "C" double peaks_measure(int which) {
    int processors = 0, major = 0, device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error) return -(double)error;
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    const peak &each = PEAKS[which];
    if (major < each.major || (each.exact && major != each.major)) return 0;
    return measured(each, processors * 8);
}
