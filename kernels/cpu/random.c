/* Random numbers. Element i takes half a Philox block, two 32-bit words: words 2 (i mod 2) and the next of
 * block i / 2, counted from the generator's position, in row-major order. So a number does not depend on
 * threads, on strides or on what was drawn before in one call or in many. f64 uses both words for 53 bits;
 * all else the upper 24 of the first.
 */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include "runtime/core/philox.h"

#include <stdlib.h>

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

/* In [low, high), though low + u (high - low) may round up to high. */
static double scaled_double(double u, double low, double high) {
    double v = low + u * (high - low);
    return v < high || low == high ? v : nextafter(high, low);
}
static float scaled_float(float u, float low, float high) {
    float v = low + u * (high - low);
    return v < high || low == high ? v : nextafterf(high, low);
}

static void draw(void *out, cld_dtype dtype, cld_random kind, double a, double b, uint64_t seed,
                 uint64_t position, int64_t i) {
    uint32_t words[2];
    words_at(seed, position + (uint64_t)i, words);
    bool uniform = kind == CLD_RANDOM_UNIFORM;
    if (dtype == CLD_F32)
        ((float *)out)[i] = uniform ? scaled_float(unit24(words[0]), (float)a, (float)b)
                                    : (float)a + (float)b * normal_float(words);
    else
        ((double *)out)[i] = uniform ? scaled_double(unit53(words), a, b) : a + b * normal_double(words);
}

/* Integers are the floor of a real number in [a, b). */
static void round_down(double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) values[i] = floor(values[i]);
}

cld_status cld__random(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                       uint64_t position) {
    int64_t n = cld__numel(out);
    cld_compute compute = cld__compute_type(out->dtype);
    cld_array dense = cld__dense_like(out, compute == CLD_COMPUTE_FLOAT ? CLD_F32 : CLD_F64);
    bool in_place = dense.dtype == out->dtype && cld__is_contiguous(out);
    if (n == 0) return CLD_OK;
    dense.data = in_place ? out->data : malloc((size_t)n * cld__size(dense.dtype));
    if (!dense.data) return cld_fail(CLD_NOMEM, "out of memory for %lld random numbers", (long long)n);
#pragma omp parallel for schedule(static) if (n >= CLD_PARALLEL_MIN / 8)
    for (int64_t i = 0; i < n; i++) draw(dense.data, dense.dtype, kind, a, b, seed, position, i);
    if (in_place) return CLD_OK;
    if (compute == CLD_COMPUTE_INT) round_down(dense.data, n);
    cld_status status = cld__copy(out, &dense);
    free(dense.data);
    return status;
}
