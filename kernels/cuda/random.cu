/* Random numbers, the same as the CPU's: element i takes half a Philox block, two 32-bit words, words 2 (i mod 2) and
 * the next of block i / 2, counted from the generator's position, in row-major order. f64 and integers use both words
 * for 53 bits; all others use the upper 24 bits of the first. Uniform numbers are equal to the last bit, so their
 * products and sums must not be fused. Normal ones differ by the rounding of log and cos. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/math.h"
#include "runtime/core/philox.h"

enum { THREADS = 256 };

/* The parameters of every draw; top is the largest value of the output's dtype below b. */
struct draws {
    bool uniform;
    double a, b, top;
    uint64_t seed, position;
};

/* a + x y, rounded twice. */
static __device__ inline float sum_of(float a, float x, float y) { return __fadd_rn(a, __fmul_rn(x, y)); }
static __device__ inline double sum_of(double a, double x, double y) { return __dadd_rn(a, __dmul_rn(x, y)); }

/* A uniform number in [0, 1). */
static __device__ inline void unit_of(float *u, const uint32_t words[2]) {
    *u = (float)(words[0] >> 8) * 0x1p-24f;
}
static __device__ inline void unit_of(double *u, const uint32_t words[2]) {
    *u = (double)((uint64_t)words[0] << 21 ^ words[1] >> 11) * 0x1p-53;
}

/* Box-Muller with 1 - u in (0, 1], so that the logarithm is finite. */
static __device__ inline void normal_of(float *out, const uint32_t words[2]) {
    float u = 1 - (float)(words[0] >> 8) * 0x1p-24f, v = (float)(words[1] >> 8) * 0x1p-24f;
    *out = sqrtf(-2 * logf(u)) * cosf(6.28318531f * v);
}
static __device__ inline void normal_of(double *out, const uint32_t words[2]) {
    double u = 1 - (double)words[0] * 0x1p-32, v = (double)words[1] * 0x1p-32;
    *out = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* A uniform number is in [a, b), although a + u (b - a), or its rounding to 16 bits, may give b. */
template <typename C> static __device__ inline C draw(const draws &d, const uint32_t words[2]) {
    C a = (C)d.a, b = (C)d.b, u;
    if (!d.uniform) {
        normal_of(&u, words);
        return sum_of(a, b, u);
    }
    unit_of(&u, words);
    C v = sum_of(a, u, b - a);
    return v > (C)d.top && d.a < d.b ? (C)d.top : v;
}

/* f32 and the 16-bit types are drawn in float; integers are the floor of a double. */
template <typename T> struct drawn { typedef typename cld_compute<T>::type type; };
template <> struct drawn<int64_t> { typedef double type; };
template <> struct drawn<int32_t> { typedef double type; };
template <> struct drawn<uint8_t> { typedef double type; };

/* One thread per Philox block; the first and the last block may be half outside. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    draw_all(T *out, cld_dims<1> dims, draws d, const int64_t *base, int64_t blocks) {
    typedef typename drawn<T>::type C;
    int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (thread >= blocks) return;
    uint64_t position = d.position + (base ? (uint64_t)*base : 0), block = position / 2 + (uint64_t)thread;
    const uint32_t key[2] = {(uint32_t)d.seed, (uint32_t)(d.seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)CLD_RNG_GENERATOR << 28,
                                 0};
    uint32_t words[4];
    cld_philox_block(key, counter, words);
    for (int half = 0; half < 2; half++) {
        int64_t i = 2 * thread + half - (int64_t)(position % 2), at[1];
        if (i < 0 || i >= dims.total) continue;
        locate<1>(at, dims, i);
        C v = draw<C>(d, words + 2 * half);
        out[at[0]] = cld_is_integer<T>::value ? convert<T>((C)floor(v)) : convert<T>(v);
    }
}

/* ---- the largest value below b ------------------------------------------------------------------------------------ */

static double widened(uint16_t half, cld_dtype dtype) {
    int exponent = dtype == CLD_F16 ? half >> 10 & 31 : half >> 7 & 255;
    int mantissa_bits = dtype == CLD_F16 ? 10 : 7, bias = dtype == CLD_F16 ? 15 : 127;
    int mantissa = half & ((1 << mantissa_bits) - 1), full = dtype == CLD_F16 ? 31 : 255;
    double v = exponent == full ? (double)INFINITY
               : exponent == 0  ? ldexp(mantissa, 1 - bias - mantissa_bits)
                                : ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    return half >> 15 ? -v : v;
}

/* The largest number of the dtype below b, by bisection over the bits, which are in the order of the numbers. */
static double largest_half_below(double b, cld_dtype dtype) {
    int low = dtype == CLD_F16 ? -0x7C00 : -0x7F80,
        high = -low; /* from -infinity to infinity, both included */
    while (high - low > 1) {
        int middle = (low + high) / 2 - ((low + high) % 2 < 0);
        uint16_t bits = (uint16_t)(middle < 0 ? 0x8000 - middle : middle);
        if (widened(bits, dtype) < b)
            low = middle;
        else
            high = middle;
    }
    return widened((uint16_t)(low < 0 ? 0x8000 - low : low), dtype);
}

static double largest_below(double b, cld_dtype dtype) {
    if (dtype == CLD_BF16 || dtype == CLD_F16) return largest_half_below(b, dtype);
    if (dtype != CLD_F32) return nextafter(b, -(double)INFINITY);
    float v = (float)b;
    return v >= b ? nextafterf(v, -(float)INFINITY) : v;
}

cld_status cld_cuda_random(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                           uint64_t position, const cld_array *base) {
    const draws d = {kind == CLD_RANDOM_UNIFORM, a, b, largest_below(b, out->dtype), seed, position};
    const int64_t *offset = base ? (const int64_t *)base->data : NULL;
    int64_t n = cld_numel(out), blocks = n / 2 + 1;
    if (n == 0) return CLD_OK;
    cld_dims<1> dims = {};
    dims.total = 1;
    if (cld_is_contiguous(out))
        push_dim(&dims, n, {1});
    else
        for (int i = 0; i < out->ndim; i++) push_dim(&dims, out->shape[i], {out->strides[i]});
    CLD_BY_DTYPE(out->dtype, T,
                 return CLD_LAUNCH((draw_all<T>), (int)((blocks + THREADS - 1) / THREADS), THREADS, 0,
                                   (T *)out->data, dims, d, offset, blocks));
    return CLD_OK;
}
