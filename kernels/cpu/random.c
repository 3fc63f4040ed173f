/* Random numbers. Element i takes half a Philox block, two 32-bit words: words 2 (i mod 2) and the next of block i / 2,
 * counted from the generator's position, in row-major order. So a number does not depend on threads, on strides, or on
 * how earlier draws were divided into calls. f64 and integers use both words for 53 bits; all others use the upper 24
 * bits of the first. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include "runtime/core/philox.h"

static void words_at(uint64_t seed, uint64_t i, uint32_t words[2]) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint64_t block = i / 2;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)CLD_RNG_GENERATOR << 28,
                                 0};
    uint32_t out[4];
    cld_philox_block(key, counter, out);
    words[0] = out[2 * (i % 2)];
    words[1] = out[2 * (i % 2) + 1];
}

static double unit53(const uint32_t words[2]) {
    return (double)((uint64_t)words[0] << 21 ^ words[1] >> 11) * 0x1p-53;
}
static float unit24(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Box-Muller with 1 - u in (0, 1], so that the logarithm is finite. */
static double normal_double(const uint32_t words[2]) {
    double u = 1 - (double)words[0] * 0x1p-32, v = (double)words[1] * 0x1p-32;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
static float normal_float(const uint32_t words[2]) {
    float u = 1 - unit24(words[0]), v = unit24(words[1]);
    return sqrtf(-2 * logf(u)) * cosf(6.28318531f * v);
}

/* The parameters of every draw; top is the largest value of the output's dtype below b. */
typedef struct draws {
    cld_random kind;
    double a, b, top;
    uint64_t seed, position;
} draws;

static double largest_below(double b, cld_dtype dtype) {
    union {
        float f;
        uint16_t half; /* bf16 or f16: sign and magnitude */
    } bits;
    cld_piece value;
    if (cld__compute_type(dtype) != CLD_COMPUTE_FLOAT) return nextafter(b, -INFINITY);
    cld__store(CLD_COMPUTE_DOUBLE, &b, &bits, dtype, 1, 1);
    if (*(const float *)cld__load(CLD_COMPUTE_FLOAT, &value, &bits, dtype, 1, 1) >= b) {
        if (dtype == CLD_F32)
            bits.f = nextafterf(bits.f, -INFINITY);
        else
            bits.half = bits.half == 0 ? 0x8001 : (uint16_t)(bits.half + (bits.half >> 15 ? 1 : -1));
    }
    return *(const float *)cld__load(CLD_COMPUTE_FLOAT, &value, &bits, dtype, 1, 1);
}

/* A number in [a, b), although a + u (b - a), or its rounding to 16 bits, may give b. */
static double uniform_double(double u, const draws *d) {
    double v = d->a + u * (d->b - d->a);
    return v > d->top && d->a < d->b ? d->top : v;
}
static float uniform_float(float u, const draws *d) {
    float a = (float)d->a, b = (float)d->b, v = a + u * (b - a);
    return v > (float)d->top && d->a < d->b ? (float)d->top : v;
}

static void draw(void *out, cld_dtype dtype, const draws *d, int64_t i) {
    uint32_t words[2];
    words_at(d->seed, d->position + (uint64_t)i, words);
    bool uniform = d->kind == CLD_RANDOM_UNIFORM;
    if (dtype == CLD_F32)
        ((float *)out)[i] =
            uniform ? uniform_float(unit24(words[0]), d) : (float)d->a + (float)d->b * normal_float(words);
    else
        ((double *)out)[i] = uniform ? uniform_double(unit53(words), d) : d->a + d->b * normal_double(words);
}

/* Integers are the floor of a real number in [a, b). */
static void round_down(double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) values[i] = floor(values[i]);
}

cld_status cld__random(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                       uint64_t position, const cld_array *base) {
    int64_t n = cld_numel(out);
    cld_compute compute = cld__compute_type(out->dtype);
    cld_array dense = cld__dense_like(out, compute == CLD_COMPUTE_FLOAT ? CLD_F32 : CLD_F64);
    bool in_place = dense.dtype == out->dtype && cld_is_contiguous(out);
    if (n == 0) return CLD_OK;
    if (base) position += (uint64_t) * (const int64_t *)base->data;
    size_t bytes = (size_t)n * cld_dtype_size(dense.dtype);
    if (in_place)
        dense.data = out->data;
    else
        CLD_TRY(cld_cpu_memory.allocate(&dense.data, bytes));
    const draws d = {kind, a, b, largest_below(b, out->dtype), seed, position};
#pragma omp parallel for schedule(static) if (n >= CLD_PARALLEL_MIN / 8)
    for (int64_t i = 0; i < n; i++) draw(dense.data, dense.dtype, &d, i);
    if (in_place) return CLD_OK;
    if (compute == CLD_COMPUTE_INT) round_down(dense.data, n);
    cld_status status = cld__copy(out, &dense);
    cld_cpu_memory.release(dense.data, bytes);
    return status;
}
