/* What kernels/cuda/launch.h promises, tested by kernels with known results, in both orders of threads. It compiles for
 * a GPU as well. Prints a line for each failed check; if none fails the exit code is 0. */
#include "spec/support/emulator_test.h"

/* ---- barriers and shared memory -------------------------------------------------------------------------------- */

/* The sum over the block, in every thread, for any number of threads. */
__device__ static long long block_sum(long long value) {
    CLD_SHARED(long long, partial, [32]);
    int warps = ((int)blockDim.x + 31) / 32, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    for (int away = 16; away > 0; away /= 2) { /* missing lanes give values that do not count */
        long long other = __shfl_down_sync(0xffffffffu, value, away);
        if (threadIdx.x + away < blockDim.x) value += other;
    }
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    long long sum = 0;
    for (int i = 0; i < warps; i++) sum += partial[i];
    __syncthreads();
    return sum;
}

__global__ void sum_blocks(long long *out, int repetitions) {
    for (int r = 0; r < repetitions; r++) {
        long long sum = block_sum((long long)blockIdx.x * 1000 + threadIdx.x + r);
        out[((size_t)r * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x] = sum;
    }
}

static cld_status test_sums() {
    static const int sizes[] = {1, 31, 32, 33, 100, 256, 1000, 1024};
    const int blocks = 5, repetitions = 3;
    long long *out = memory<long long>((size_t)blocks * repetitions * 1024);
    for (int n : sizes) {
        CLD_TRY(CLD_LAUNCH(sum_blocks, blocks, n, 0, out, repetitions));
        CLD_TRY(cld_cuda_wait());
        int bad = 0;
        for (int r = 0; r < repetitions; r++)
            for (int b = 0; b < blocks; b++)
                for (int t = 0; t < n; t++)
                    bad += out[((size_t)r * blocks + b) * n + t] !=
                           (long long)n * (b * 1000 + r) + (long long)n * (n - 1) / 2;
        expect(bad == 0, "sum of a block: %d wrong with %d threads", bad, n);
    }
    return CLD_OK;
}

/* Threads that have exited do not count at a barrier. */
__global__ void leave_early(int *out, int stay) {
    CLD_SHARED(int, seen, [64]);
    int t = (int)threadIdx.x;
    seen[t] = t + 1;
    if (t >= stay) return;
    __syncthreads();
    out[t] = seen[(t + 1) % stay];
}

static cld_status test_exits() {
    int *out = memory<int>(64);
    for (int stay : {1, 5, 32, 40, 64}) {
        CLD_TRY(CLD_LAUNCH(leave_early, 1, 64, 0, out, stay));
        CLD_TRY(cld_cuda_wait());
        for (int t = 0; t < stay; t++)
            expect(out[t] == (t + 1) % stay + 1, "barrier after exits: %d in thread %d of %d", out[t], t,
                   stay);
    }
    return CLD_OK;
}

/* Transposes through dynamic shared memory, in blocks of three dimensions. */
__global__ void turn(float *out, const float *x) {
    CLD_DYNAMIC_SHARED(float, tile);
    int t = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    int n = (int)(blockDim.x * blockDim.y * blockDim.z);
    int block = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    tile[t] = x[block * n + t];
    __syncthreads();
    out[block * n + t] = tile[n - 1 - t];
}

static cld_status test_dynamic() {
    const int n = 4 * 5 * 6, blocks = 2 * 3 * 2;
    float *x = memory<float>(n * blocks), *out = memory<float>(n * blocks);
    for (int i = 0; i < n * blocks; i++) x[i] = (float)i;
    CLD_TRY(CLD_LAUNCH(turn, dim3(2, 3, 2), dim3(4, 5, 6), n * sizeof(float), out, x));
    CLD_TRY(cld_cuda_wait());
    int bad = 0;
    for (int b = 0; b < blocks; b++)
        for (int t = 0; t < n; t++) bad += out[b * n + t] != x[b * n + n - 1 - t];
    expect(bad == 0, "dynamic shared memory: %d wrong", bad);
    return CLD_OK;
}

__global__ void count_votes(int *out) {
    int t = (int)threadIdx.x;
    int count = __syncthreads_count(t % 3 == 0), any = __syncthreads_or(t == 40),
        all = __syncthreads_and(t < 40);
    if (t == 17) out[0] = count, out[1] = any, out[2] = all;
}

static cld_status test_block_votes() {
    int *out = memory<int>(3);
    CLD_TRY(CLD_LAUNCH(count_votes, 1, 45, 0, out));
    CLD_TRY(cld_cuda_wait());
    expect(out[0] == 15 && out[1] == 1 && out[2] == 0, "votes of a block: %d %d %d", out[0], out[1], out[2]);
    return CLD_OK;
}

/* ---- warps ------------------------------------------------------------------------------------------------------ */

template <typename T> __global__ void shuffle(T *out, int width, int by) {
    int lane = (int)threadIdx.x;
    T value = (T)(lane * 3 + 1);
    out[lane] = __shfl_sync(0xffffffffu, value, by, width);
    out[32 + lane] = __shfl_up_sync(0xffffffffu, value, by, width);
    out[64 + lane] = __shfl_down_sync(0xffffffffu, value, by, width);
    out[96 + lane] = __shfl_xor_sync(0xffffffffu, value, by, width);
}

template <typename T> static cld_status test_shuffle(const char *type) {
    T *out = memory<T>(128);
    for (int width = 4; width <= 32; width *= 2)
        for (int by = 0; by < 8; by++) {
            CLD_TRY(CLD_LAUNCH((shuffle<T>), 1, 32, 0, out, width, by));
            CLD_TRY(cld_cuda_wait());
            for (int lane = 0; lane < 32; lane++) {
                int start = lane / width * width, end = start + width;
                int from[4] = {start + by % width, lane - by >= start ? lane - by : lane,
                               lane + by < end ? lane + by : lane, (lane ^ by) < end ? lane ^ by : lane};
                for (int i = 0; i < 4; i++)
                    expect(out[32 * i + lane] == (T)(from[i] * 3 + 1),
                           "shuffle %d of %s by %d, width %d: lane %d has %g", i, type, by, width, lane,
                           (double)out[32 * i + lane]);
            }
        }
    return CLD_OK;
}

/* Lanes 8 to 23 vote; 20 of them and up have exited. */
__global__ void vote(unsigned *out) {
    unsigned lane = threadIdx.x, mask = 0x00ffff00u;
    if (lane >= 20 || lane < 8) return;
    out[lane] = __ballot_sync(mask, lane & 1);
    out[32 + lane] = (unsigned)__any_sync(mask, lane == 19) + 2u * (unsigned)__any_sync(mask, lane == 20);
    out[64 + lane] = (unsigned)__all_sync(mask, lane < 20) + 2u * (unsigned)__all_sync(mask, lane < 19);
}

static cld_status test_votes() {
    unsigned *out = memory<unsigned>(96);
    CLD_TRY(CLD_LAUNCH(vote, 1, 32, 0, out));
    CLD_TRY(cld_cuda_wait());
    for (int l = 8; l < 20; l++)
        expect(out[l] == 0x000aaa00u && out[32 + l] == 1 && out[64 + l] == 1,
               "votes of lane %d: 0x%08x %u %u", l, out[l], out[32 + l], out[64 + l]);
    return CLD_OK;
}

/* The halves of a warp diverge, and progress at different speeds between operations of the whole warp. */
__global__ void part(int *out) {
    int lane = (int)threadIdx.x, sum = 0;
    for (int round = 0; round < 3; round++) {
        int whole = __shfl_sync(0xffffffffu, lane * 100 + round, 31 - lane);
        if (lane < 16) {
            for (int i = 0; i < 4; i++) sum += __shfl_xor_sync(0x0000ffffu, lane + i, 1);
        } else {
            __syncwarp(0xffff0000u);
            sum += __shfl_sync(0xffff0000u, lane, 16);
        }
        sum += whole;
    }
    out[lane] = sum;
}

static cld_status test_parts() {
    int *out = memory<int>(32);
    CLD_TRY(CLD_LAUNCH(part, 1, 32, 0, out));
    CLD_TRY(cld_cuda_wait());
    for (int lane = 0; lane < 32; lane++) {
        int expected = 3 * (31 - lane) * 100 + 3 + (lane < 16 ? 3 * (4 * (lane ^ 1) + 6) : 3 * 16);
        expect(out[lane] == expected, "halves of a warp: lane %d has %d, not %d", lane, out[lane], expected);
    }
    return CLD_OK;
}

/* ---- atomics ---------------------------------------------------------------------------------------------------- */

struct totals {
    int sum, least, greatest, bits, swapped;
    unsigned wrapped;
    unsigned long long sum64, least64;
    float sum32f;
    double sum64f;
};

__global__ void add_up(totals *t, unsigned *tickets, int *last) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(&t->sum, i);
    atomicMin(&t->least, 7 - i);
    atomicMax(&t->greatest, 3 * i);
    atomicOr(&t->bits, 1 << i % 20);
    atomicAdd(&t->sum64, (unsigned long long)i << 32);
    atomicMin(&t->least64, 1ull << 40 | (unsigned)i);
    atomicAdd(&t->sum32f, 0.5f);
    atomicAdd(&t->sum64f, 0.25);
    atomicCAS(&t->swapped, 0, 42);
    atomicInc(&t->wrapped, 9);
    /* The last block to finish knows that it is. */
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && atomicAdd(tickets, 1u) == gridDim.x - 1) *last = t->sum;
}

static cld_status test_atomics() {
    totals *t = memory<totals>(1);
    unsigned *tickets = memory<unsigned>(1);
    int *last = memory<int>(1);
    t->least64 = ~0ull;
    CLD_TRY(CLD_LAUNCH(add_up, 4, 64, 0, t, tickets, last));
    CLD_TRY(cld_cuda_wait());
    int sum = 256 * 255 / 2;
    expect(t->sum == sum && *last == sum, "atomicAdd of int: %d, %d by the last block", t->sum, *last);
    expect(t->least == 7 - 255 && t->greatest == 3 * 255, "atomicMin, Max: %d, %d", t->least, t->greatest);
    expect(t->bits == (1 << 20) - 1, "atomicOr: 0x%x", t->bits);
    expect(t->sum64 == (unsigned long long)sum << 32, "atomicAdd of 64 bits: %llx", t->sum64);
    expect(t->least64 == 1ull << 40, "atomicMin of 64 bits: %llx", t->least64);
    expect(t->sum32f == 128 && t->sum64f == 64, "atomicAdd of floats: %g, %g", (double)t->sum32f, t->sum64f);
    expect(t->swapped == 42, "atomicCAS: %d", t->swapped);
    expect(t->wrapped == 256 % 10, "atomicInc: %u", t->wrapped);
    return CLD_OK;
}

/* ---- 16 bits ------------------------------------------------------------------------------------------------------ */

__global__ void narrow(uint16_t *b, uint16_t *h, uint16_t *b_double, uint16_t *h_double, const double *x,
                       int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    b[i] = __bfloat16_as_ushort(store<bf16>((float)x[i]));
    h[i] = __half_as_ushort(store<f16>((float)x[i]));
    b_double[i] = __bfloat16_as_ushort(__double2bfloat16(x[i]));
    h_double[i] = __half_as_ushort(__double2half(x[i]));
}

__global__ void widen(float *b, float *h) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    b[i] = load(__ushort_as_bfloat16((unsigned short)i));
    h[i] = load(__ushort_as_half((unsigned short)i));
}

/* x as a number with `digits` binary digits and exponents from `low` to `high`, rounded as IEEE 754 defines it. */
static uint16_t encoded(double x, int digits, int low, int high) {
    if (isnan(x)) return 0x7fff;
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs(x), end = ldexp(1.0, high + 1);
    int infinite = (high - low + 2) << (digits - 1);
    if (magnitude == 0) return sign;
    if (isinf(x)) return (uint16_t)(sign | infinite);
    int exponent = ilogb(magnitude) < low ? low : ilogb(magnitude);
    double units = nearbyint(ldexp(magnitude, digits - 1 - exponent));
    double rounded = ldexp(units, exponent - digits + 1);
    if (rounded >= end) return (uint16_t)(sign | infinite);
    /* units of 2^(digits - 1) carry into the exponent automatically */
    return (uint16_t)(sign | (((exponent - low) << (digits - 1)) + (int)units));
}
static double decoded(uint16_t bits, int digits, int low, int high) {
    int fraction = bits & ((1 << (digits - 1)) - 1), exponent = (bits & 0x7fff) >> (digits - 1);
    double magnitude = exponent == 0 ? ldexp(fraction, low - digits + 1)
                                     : ldexp(fraction + (1 << (digits - 1)), low + exponent - digits);
    if (exponent == high - low + 2) magnitude = fraction ? NAN : INFINITY;
    return bits & 0x8000 ? -magnitude : magnitude;
}

static bool same(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static void gather_doubles(std::vector<double> &x) {
    for (int bits = 0; bits < 1 << 16; bits++) { /* every number, and the value halfway to the next */
        for (int of_half = 0; of_half < 2; of_half++) {
            int digits = of_half ? 11 : 8, low = of_half ? -14 : -126, high = of_half ? 15 : 127;
            double at = decoded((uint16_t)bits, digits, low, high);
            double half_way = (at + decoded((uint16_t)(bits + 1), digits, low, high)) / 2;
            x.push_back(at);
            x.push_back(half_way);
            x.push_back(nextafterf((float)half_way, 0));
            x.push_back(nextafterf((float)half_way, INFINITY));
            x.push_back(nextafter(half_way, 0));
            x.push_back(nextafter(half_way, INFINITY));
        }
    }
    uint32_t state = 1;
    for (int i = 0; i < 100000; i++) {
        state = state * 1664525u + 1013904223u;
        float f;
        memcpy(&f, &state, sizeof f);
        x.push_back(f);
    }
    for (double special :
         {65504.0, 65519.99, 65520.0, 65536.0, 3.4028234e38, 3.39e38, 1e39, 1e300, 1e-300, 5e-324, 0.0})
        x.push_back(special), x.push_back(-special);
}

static cld_status test_narrow() {
    std::vector<double> values;
    gather_doubles(values);
    int n = (int)values.size();
    double *x = memory<double>(n);
    memcpy(x, values.data(), n * sizeof *x);
    uint16_t *out[4];
    for (int i = 0; i < 4; i++) out[i] = memory<uint16_t>(n);
    CLD_TRY(CLD_LAUNCH(narrow, (n + 255) / 256, 256, 0, out[0], out[1], out[2], out[3], x, n));
    CLD_TRY(cld_cuda_wait());
    static const char *const names[] = {"float to bf16", "float to f16", "double to bf16", "double to f16"};
    for (int i = 0; i < 4; i++) {
        int bad = 0;
        for (int j = 0; j < n; j++) {
            double from = i < 2 ? (float)x[j] : x[j];
            uint16_t expected = i % 2 ? encoded(from, 11, -14, 15) : encoded(from, 8, -126, 127);
            if (out[i][j] != expected && bad++ == 0)
                expect(false, "%s: %a gives 0x%04x, not 0x%04x", names[i], from, out[i][j], expected);
        }
        expect(bad == 0, "%s: %d of %d wrong", names[i], bad, n);
    }
    return CLD_OK;
}

static cld_status test_widen() {
    float *b = memory<float>(1 << 16), *h = memory<float>(1 << 16);
    CLD_TRY(CLD_LAUNCH(widen, 256, 256, 0, b, h));
    CLD_TRY(cld_cuda_wait());
    int bad_b = 0, bad_h = 0;
    for (int i = 0; i < 1 << 16; i++) {
        bad_b += !same(b[i], decoded((uint16_t)i, 8, -126, 127));
        bad_h += !same(h[i], decoded((uint16_t)i, 11, -14, 15));
    }
    expect(bad_b == 0 && bad_h == 0, "to float: %d of bf16, %d of f16 wrong", bad_b, bad_h);
    return CLD_OK;
}

__global__ void halves(float *out) {
    __half2 h = __floats2half2_rn(1.5f, -2.0f);
    __nv_bfloat162 b = __floats2bfloat162_rn(0.25f, 3.0f);
    float2 v = __half22float2(__hmul2(h, h)), w = __bfloat1622float2(__hadd2(b, b));
    out[0] = v.x, out[1] = v.y, out[2] = w.x, out[3] = w.y;
    /* 1 + 2^-11 (1 + 2^-11) is above the tie; its product alone, or its sum in float, is not */
    __half tiny = __float2half(0x1p-11f), one = __float2half(1.0f);
    out[4] = __half2float(__hfma(tiny, __float2half(1.0f + 0x1p-10f), one));
    out[5] = __half2float(__hfma(tiny, one, one));
    out[6] = __low2float(h), out[7] = __high2float(b);
}

static cld_status test_halves() {
    static const float expected[] = {2.25f, 4, 0.5f, 6, 1.0f + 0x1p-10f, 1.0f, 1.5f, 3};
    float *out = memory<float>(8);
    CLD_TRY(CLD_LAUNCH(halves, 1, 1, 0, out));
    CLD_TRY(cld_cuda_wait());
    for (int i = 0; i < 8; i++) expect(out[i] == expected[i], "16-bit arithmetic %d: %a", i, (double)out[i]);
    return CLD_OK;
}

/* ---- functions ---------------------------------------------------------------------------------------------------- */

static_assert(alignof(float4) == 16 && alignof(float2) == 8 && alignof(float3) == 4 && alignof(double2) == 16,
              "");
static_assert(alignof(int4) == 16 && alignof(uint2) == 8 && alignof(uchar4) == 4 && alignof(ushort4) == 8,
              "");
static_assert(alignof(longlong2) == 16 && alignof(ulonglong2) == 16 && sizeof(uchar3) == 3, "");
static_assert(sizeof(__nv_bfloat162) == 4 && alignof(__half2) == 4 && sizeof(bf16) == 2, "");

__global__ void integers(long long *out, int minus_one, unsigned big, float x, float zero) {
    float nan = __int_as_float(0x7fc00000);
    int i = 0;
    out[i++] = __popc(0xf0f0u) + __popcll(~0ull);
    out[i++] = __clz(1) + __clz(0) + __clzll(1);
    out[i++] = __ffs(0x80) + __ffs(0) + __ffsll(1ll << 40);
    out[i++] =
        __brev(1u) == 0x80000000u && __brevll(2ull) == 1ull << 62 && __brev(0x12345678u) == 0x1e6a2c48u;
    out[i++] = __umulhi(0xffffffffu, 0xffffffffu) == 0xfffffffeu && __mulhi(-2, 3) == -1;
    out[i++] = __umul64hi(~0ull, 16ull) == 15 && __mul64hi(-1ll, 1ll) == -1;
    out[i++] = __byte_perm(0x33221100u, 0x77665544u, 0x7150u) == 0x77115500u;
    out[i++] = __funnelshift_l(0x80000000u, 1u, 1) == 3u && __funnelshift_r(1u, 3u, 1) == 0x80000000u;
    out[i++] = __float2int_rn(2.5f) * 1000 + __float2int_rd(-1.5f) * 100 + __float2int_ru(1.25f) * 10 +
               __float2int_rz(-1.75f);
    out[i++] =
        __float2int_rn(nan) == 0 && __float2int_rn(1e20f) == 2147483647 && __float2int_rz(-1e20f) == INT_MIN;
    out[i++] =
        __float2uint_rn(-5.0f) == 0 && __float2uint_rz(4e9f) == 4000000000u && __float2uint_rz(1e10f) == ~0u;
    out[i++] = __double2ll_rn(-0x1p62) == -(1ll << 62) && __double2ll_rz(1e30) == LLONG_MAX;
    out[i++] = __float_as_uint(1.0f) == 0x3f800000u && __double_as_longlong(-0.0) == LLONG_MIN;
    out[i++] = max(minus_one, big) == 0xffffffffu && min(minus_one, 3) == -1 && max(1.0f, 2.5) == 2.5;
    out[i++] = max(nan, x) == x && min(x, nan) == x && fmaxf(nan, x) == x && __saturatef(nan) == 0;
    out[i++] = __saturatef(-x) == 0 && __saturatef(2 * x) == 1 && __saturatef(0.5f) == 0.5f;
    out[i++] = isnan(nan) && !isnan(x) && isinf(x / zero) && isfinite(x) && !isfinite(nan);
    out[i++] =
        __fmul_rn(x, 1.0f / 3) - 1.0f / 3 == 0 && __fmaf_rn(x + 0x1p-12f, x - 0x1p-12f, -1.0f) == -0x1p-24f;
    out[i++] = __fadd_rn(__fmul_rn(x + 0x1p-12f, x - 0x1p-12f), -1.0f) == -0x1p-24f && __fsqrt_rn(4 * x) == 2;
    out[i++] = rsqrtf(4 * x) == 0.5f && rsqrt(0.25 * x) == 2 && __fdividef(x, 2.0f) == 0.5f && warpSize == 32;
    out[i++] = fabsf(__expf(x) - 2.7182818f) < 1e-5f && fabsf(__logf(8 * x) - 2.0794415f) < 1e-5f;
    out[i++] = fabsf(__powf(2 * x, 0.5f) - 1.4142136f) < 1e-5f && sinpif(x) == 0 && cospif(x) == -1;
}

static cld_status test_functions() {
    static const long long expected[] = {
        8 + 64, 31 + 32 + 63, 8 + 41, 1, 1, 1, 1, 1, 2000 - 200 + 20 - 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1};
    const int n = sizeof expected / sizeof *expected;
    long long *out = memory<long long>(n);
    CLD_TRY(CLD_LAUNCH(integers, 1, 1, 0, out, -1, 5u, 1.0f, 0.0f));
    CLD_TRY(cld_cuda_wait());
    for (int i = 0; i < n; i++)
        expect(out[i] == expected[i], "function %d: %lld, not %lld", i, out[i], expected[i]);
    return CLD_OK;
}

/* ---- launches ------------------------------------------------------------------------------------------------------ */

template <typename T, typename F> __global__ void map(T *out, int n, F f) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = f(i);
}
struct affine {
    float scale, shift;
    __device__ float operator()(int i) const { return scale * (float)i + shift; }
};

/* A large local array that is live across barriers: it is on the stack. */
__global__ void carry(int *out) {
    int own[4000];
    for (int i = 0; i < 4000; i++) own[i] = i * (int)threadIdx.x;
    __syncthreads();
    int sum = 0;
    for (int i = 0; i < 4000; i++) sum += own[(i * 7) % 4000];
    __syncthreads();
    out[threadIdx.x] = sum;
}

static cld_status test_launches() {
    float *out = memory<float>(100);
    {
        affine f = {2, 1}; /* a launch has copies of its arguments */
        CLD_TRY(CLD_LAUNCH((map<float>), (int64_t)4, 32, 0, out, 100, f));
        f.scale = 3;
    }
    int *sums = memory<int>(64);
    CLD_TRY(CLD_LAUNCH(carry, 1, 64, 0, sums));
    CLD_TRY(cld_cuda_wait());
    expect(out[0] == 1 && out[99] == 199, "map: %g, %g", (double)out[0], (double)out[99]);
    expect(sums[63] == 63 * (4000 * 3999 / 2), "local array: %d", sums[63]);
    return CLD_OK;
}

static cld_status test_all() {
    CLD_TRY(test_sums());
    CLD_TRY(test_exits());
    CLD_TRY(test_dynamic());
    CLD_TRY(test_block_votes());
    CLD_TRY(test_shuffle<int>("int"));
    CLD_TRY(test_shuffle<unsigned>("unsigned"));
    CLD_TRY(test_shuffle<long long>("long long"));
    CLD_TRY(test_shuffle<unsigned long long>("unsigned long long"));
    CLD_TRY(test_shuffle<float>("float"));
    CLD_TRY(test_shuffle<double>("double"));
    CLD_TRY(test_votes());
    CLD_TRY(test_parts());
    CLD_TRY(test_atomics());
    CLD_TRY(test_narrow());
    CLD_TRY(test_widen());
    CLD_TRY(test_halves());
    CLD_TRY(test_functions());
    return test_launches();
}

static cld_status test(void) {
#ifndef __CUDACC__
    cld_host_order(true);
    CLD_TRY(test_all());
    cld_host_order(false);
#endif
    return test_all();
}
