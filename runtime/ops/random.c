/* Random filling in place, from one generator for the process: (seed, position). Each element takes one position, so a
 * checkpoint of two integers is enough to continue the sequence anywhere. No lock, because one thread runs the
 * recipe. */
#include "runtime/ops/ops.h"

static cld_generator generator;

static struct {
    const cld_array *base; /* NULL: nothing is being recorded */
    uint64_t start;
} recording;

cld_generator cld_get_generator(void) { return generator; }
void cld_set_generator(cld_generator g) { generator = g; }

void cld_begin_recorded_draws(const cld_array *base) {
    recording.base = base;
    recording.start = generator.position;
}

uint64_t cld_end_recorded_draws(void) {
    uint64_t drawn = generator.position - recording.start;
    recording.base = NULL;
    generator.position = recording.start;
    return drawn;
}

cld_status cld_check_draw(const char *op, const cld_backend *where) {
    if (!recording.base || where != cld_cpu_backend()) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: drawn on the host, which a captured graph cannot repeat", op);
}

static cld_status fill_random(const char *op, cld_tensor *x, cld_random kind, double a, double b) {
    CLD_TRY(cld_check_in_place(op, x));
    CLD_TRY(cld_check_draw(op, cld_device(x)));
    CLD_TRY(cld_check_float(op, x));
    atomic_fetch_add(&x->storage->version, 1);
    CLD_AUTO cld_tensor *plain = x->a.layout == CLD_STRIDED
                                     ? cld_tensor_retain(x)
                                     : cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (!plain) return cld_error_code();
    uint64_t position = generator.position - (recording.base ? recording.start : 0);
    CLD_TRY(cld_kernel(cld_device(x), math, random, &plain->a, kind, a, b, generator.seed, position,
                       recording.base));
    generator.position += (uint64_t)cld_numel(&x->a);
    return plain == x ? CLD_OK : cld_tensor_copy(x, plain);
}

cld_status cld_uniform_(cld_tensor *x, double low, double high) {
    if (!(low <= high))
        return cld_fail(CLD_INVALID, "uniform_: low must not be above high, got %g and %g", low, high);
    return fill_random("uniform_", x, CLD_RANDOM_UNIFORM, low, high);
}

cld_status cld_normal_(cld_tensor *x, double mean, double deviation) {
    if (!(deviation >= 0))
        return cld_fail(CLD_INVALID, "normal_: the standard deviation must not be negative, got %g",
                        deviation);
    return fill_random("normal_", x, CLD_RANDOM_NORMAL, mean, deviation);
}
