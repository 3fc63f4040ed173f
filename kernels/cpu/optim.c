/* The parts of an optimizer besides its step: the exponential moving average, the loss scale, factors. */
#include <math.h>
#include <omp.h>

#include "kernels/cpu/optim.h"
#include "kernels/cpu/simd.h"

void cld__for_all(int count, cld__size_of size, const void *context,
                  void (*body)(const void *context, int i, int64_t start, int64_t end)) {
    int64_t total = 0;
    for (int i = 0; i < count; i++) total += size(context, i);
#pragma omp parallel if (total > CLD_PARALLEL_MIN)
    {
        int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t first = total * thread / threads & ~INT64_C(15), at = 0;
        int64_t last = thread + 1 == threads ? total : (total * (thread + 1) / threads & ~INT64_C(15));
        for (int i = 0; i < count && at < last; i++) {
            int64_t n = size(context, i);
            int64_t start = first > at ? first - at : 0, end = last - at < n ? last - at : n;
            if (start < end) body(context, i, start, end);
            at += n;
        }
    }
}

/* ---- moving average ------------------------------------------------------------------------------------ */

typedef struct ema_context {
    const cld_array *targets, *sources;
    double decay;
} ema_context;

CLD_SIMD static void ema_f32(float *target, const float *source, int64_t n, double decay) {
    float keep = (float)decay, take = (float)(1 - decay);
    for (int64_t i = 0; i < n; i++) target[i] = keep * target[i] + take * source[i];
}

static void ema_f64(double *target, const double *source, int64_t n, double decay) {
    for (int64_t i = 0; i < n; i++) target[i] = decay * target[i] + (1 - decay) * source[i];
}

static void ema_range(const void *context, int i, int64_t start, int64_t end) {
    const ema_context *c = context;
    void *target = c->targets[i].data;
    const void *source = c->sources[i].data;
    if (c->targets[i].dtype == CLD_F32)
        ema_f32((float *)target + start, (const float *)source + start, end - start, c->decay);
    else
        ema_f64((double *)target + start, (const double *)source + start, end - start, c->decay);
}

static int64_t ema_size(const void *context, int i) {
    return cld_numel(&((const ema_context *)context)->targets[i]);
}

static cld_status ema(int count, const cld_array *targets, const cld_array *sources, double decay,
                      const cld_array *decay_tensor, const cld_array *condition) {
    ema_context c = {targets, sources, decay_tensor ? *(const double *)decay_tensor->data : decay};
    if (cld__holds(condition)) cld__for_all(count, ema_size, &c, ema_range);
    return CLD_OK;
}

/* ---- the loss scale ------------------------------------------------------------------------------------ */

/* A finite value times zero is zero; anything else gives NaN. So sums of these products replace a test per element. */
CLD_SIMD static bool finite_f32(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += 0 * x[i];
    return sum == 0;
}

static bool finite_f64(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += 0 * x[i];
    return sum == 0;
}

/* bf16 and f16: the exponent's bits are not all set. */
static bool finite_half(const uint16_t *x, int64_t n, uint16_t exponent) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite &= (x[i] & exponent) != exponent;
    return finite;
}

typedef struct finite_context {
    const cld_array *arrays;
    uint8_t *flag;
} finite_context;

static void finite_range(const void *context, int i, int64_t start, int64_t end) {
    const finite_context *c = context;
    const void *data = c->arrays[i].data;
    int64_t n = end - start;
    bool finite =
        c->arrays[i].dtype == CLD_F32 ? finite_f32((const float *)data + start, n)
        : c->arrays[i].dtype == CLD_F64
            ? finite_f64((const double *)data + start, n)
            : finite_half((const uint16_t *)data + start, n, c->arrays[i].dtype == CLD_F16 ? 0x7C00 : 0x7F80);
    if (finite) return;
#pragma omp atomic write
    *c->flag = 0;
}

static int64_t finite_size(const void *context, int i) {
    return cld_numel(&((const finite_context *)context)->arrays[i]);
}

static cld_status all_finite(const cld_array *flag, int count, const cld_array *arrays) {
    finite_context c = {arrays, flag->data};
    cld__for_all(count, finite_size, &c, finite_range);
    return CLD_OK;
}

static cld_status update_scale(const cld_array *scale, const cld_array *good, const cld_array *condition,
                               const cld_scale_params *p) {
    float *factor = scale->data;
    int32_t *steps = good->data;
    if (!cld__holds(condition)) {
        *factor *= (float)p->backoff;
        *steps = 0;
    } else if (++*steps >= p->interval) {
        float grown = *factor * (float)p->growth;
        if (isfinite(grown)) *factor = grown;
        *steps = 0;
    }
    return CLD_OK;
}

/* ---- factors ------------------------------------------------------------------------------------------- */

typedef struct scale_context {
    const cld_array *arrays;
    double factor;
} scale_context;

static int64_t scale_size(const void *context, int i) {
    return cld_numel(&((const scale_context *)context)->arrays[i]);
}

static void scale_range(const void *context, int i, int64_t start, int64_t end) {
    const scale_context *c = context;
    void *data = c->arrays[i].data;
    if (c->arrays[i].dtype == CLD_F32)
        for (int64_t k = start; k < end; k++) ((float *)data)[k] *= (float)c->factor;
    else
        for (int64_t k = start; k < end; k++) ((double *)data)[k] *= c->factor;
}

static cld_status scale(int count, const cld_array *arrays, const cld_array *factor) {
    scale_context c = {arrays, *(const double *)factor->data};
    cld__for_all(count, scale_size, &c, scale_range);
    return CLD_OK;
}

const cld_optim_ops cld_cpu_optim = {
    .step = cld__optim_step,
    .ema = ema,
    .grad_norm = cld__optim_grad_norm,
    .scale = scale,
    .all_finite = all_finite,
    .update_scale = update_scale,
};
