/* Random integers and permutations, drawn on the host from the generator that random.c keeps. Element i takes position
 * generator.position + i, in another stream (view 1) than uniform_ and normal_. */
#include "runtime/core/philox.h"
#include "runtime/ops/ops.h"

/* An integer in [0, range); the bias is below range / 2^64. */
static uint64_t draw(cld_generator g, uint64_t i, uint64_t range) {
    cld_philox r = cld_philox_at(g.seed, CLD_RNG_GENERATOR, 0, g.position + i, 1);
    uint64_t high = cld_philox_u32(&r), bits = high << 32 | cld_philox_u32(&r);
    return (uint64_t)(((unsigned __int128)bits * range) >> 64);
}

/* Moves the finished host tensor to where it was asked for, and advances the generator. */
static cld_tensor *finish(cld_tensor *host, cld_generator g, cld_dtype dtype, const cld_backend *device) {
    g.position += (uint64_t)cld_numel(&host->a);
    cld_set_generator(g);
    return cld_tensor_as(host, dtype, device);
}

cld_tensor *cld_randint(cld_dtype dtype, int ndim, const int64_t *shape, int64_t low, int64_t high,
                        const cld_backend *device) {
    if (low >= high)
        return cld_fail_null(CLD_INVALID, "randint: there is no integer in [%lld, %lld)", (long long)low,
                             (long long)high);
    CLD_TRY_NULL(cld_check_draw("randint", cld_cpu_backend()));
    CLD_TRY_NULL(cld_check_holds("randint", dtype, (double)low, (double)high - 1));
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_I64, ndim, shape, cld_cpu_backend());
    if (!host) return NULL;
    cld_generator g = cld_get_generator();
    int64_t *values = host->a.data, count = cld_numel(&host->a);
    uint64_t range = (uint64_t)high - (uint64_t)low;
    for (int64_t i = 0; i < count; i++) values[i] = (int64_t)((uint64_t)low + draw(g, (uint64_t)i, range));
    return finish(host, g, dtype, device);
}

/* Fisher and Yates's shuffle. */
cld_tensor *cld_randperm(cld_dtype dtype, int64_t n, const cld_backend *device) {
    CLD_TRY_NULL(cld_check_draw("randperm", cld_cpu_backend()));
    CLD_TRY_NULL(cld_check_holds("randperm", dtype, 0, n > 0 ? (double)n - 1 : 0));
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_I64, 1, &n, cld_cpu_backend());
    if (!host) return NULL;
    cld_generator g = cld_get_generator();
    int64_t *values = host->a.data;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = (int64_t)draw(g, (uint64_t)i, (uint64_t)i + 1);
        values[i] = values[k]; /* inside out: k <= i, and values[i] = i goes to k */
        values[k] = i;
    }
    return finish(host, g, dtype, device);
}
