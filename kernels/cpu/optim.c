/* SGD, the exponential moving average, and the loss scale: one pass over all tensors.
 *
 * Every thread takes an equal share of all elements, whatever tensors they lie in: a network has a few large
 * tensors and many tiny ones, and a loop per tensor would spend its time starting threads. What each thread
 * does per tensor is bounded by memory bandwidth.
 */
#include <math.h>
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* body(context, tensor i, its elements [start, end)) over all elements of all tensors. */
static void for_all(int count, const cld_array *tensors, const void *context,
                    void (*body)(const void *context, int i, int64_t start, int64_t end)) {
    int64_t total = 0;
    for (int i = 0; i < count; i++) total += cld_numel(&tensors[i]);
#pragma omp parallel if (total > CLD_PARALLEL_MIN)
    {
        int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t first = total * thread / threads & ~INT64_C(15), at = 0;
        int64_t last = thread + 1 == threads ? total : (total * (thread + 1) / threads & ~INT64_C(15));
        for (int i = 0; i < count && at < last; i++) {
            int64_t n = cld_numel(&tensors[i]);
            int64_t start = first > at ? first - at : 0, end = last - at < n ? last - at : n;
            if (start < end) body(context, i, start, end);
            at += n;
        }
    }
}

/* ---- SGD ----------------------------------------------------------------------------------------------- */

typedef struct sgd_context {
    const cld_array *params, *grads, *buffers;
    const cld_sgd_params *p;
    double unscale; /* what the gradients are multiplied by */
} sgd_context;

CLD_SIMD static void sgd_f32(float *w, const float *grad, float *buffer, int64_t n, const cld_sgd_params *p,
                             float unscale) {
    float lr = (float)p->lr, momentum = (float)p->momentum, decay = (float)p->weight_decay;
    float fresh = (float)(1 - p->dampening);
    bool nesterov = p->nesterov;
    if (!buffer) {
        for (int64_t i = 0; i < n; i++) w[i] -= lr * (unscale * grad[i] + decay * w[i]);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float g = unscale * grad[i] + decay * w[i], b = momentum * buffer[i] + fresh * g;
        buffer[i] = b;
        w[i] -= lr * (nesterov ? g + momentum * b : b);
    }
}

static void sgd_f64(double *w, const double *grad, double *buffer, int64_t n, const cld_sgd_params *p,
                    double unscale) {
    for (int64_t i = 0; i < n; i++) {
        double g = unscale * grad[i] + p->weight_decay * w[i];
        if (buffer) {
            buffer[i] = p->momentum * buffer[i] + (1 - p->dampening) * g;
            g = p->nesterov ? g + p->momentum * buffer[i] : buffer[i];
        }
        w[i] -= p->lr * g;
    }
}

static void sgd_range(const void *context, int i, int64_t start, int64_t end) {
    const sgd_context *c = context;
    void *w = c->params[i].data, *buffer = c->buffers ? c->buffers[i].data : NULL;
    const void *grad = c->grads[i].data;
    if (c->params[i].dtype == CLD_F32)
        sgd_f32((float *)w + start, (const float *)grad + start, buffer ? (float *)buffer + start : NULL,
                end - start, c->p, (float)c->unscale);
    else
        sgd_f64((double *)w + start, (const double *)grad + start, buffer ? (double *)buffer + start : NULL,
                end - start, c->p, c->unscale);
}

static cld_status sgd(int count, const cld_array *params, const cld_array *grads, const cld_array *buffers,
                      const cld_sgd_params *p, const cld_step_control *control) {
    cld_sgd_params options = *p;
    sgd_context c = {params, grads, buffers, &options, 1};
    if (control && !cld__holds(control->condition)) return CLD_OK;
    if (control && control->lr) options.lr = *(const double *)control->lr->data;
    if (control && control->scale) c.unscale = 1 / (double)*(const float *)control->scale->data;
    for_all(count, params, &c, sgd_range);
    return CLD_OK;
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

static cld_status ema(int count, const cld_array *targets, const cld_array *sources, double decay,
                      const cld_array *condition) {
    ema_context c = {targets, sources, decay};
    if (cld__holds(condition)) for_all(count, targets, &c, ema_range);
    return CLD_OK;
}

/* ---- the loss scale ------------------------------------------------------------------------------------ */

/* Finite times zero is zero, all else is NaN: sums of these products are as good as a test per element. */
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

static cld_status all_finite(const cld_array *flag, int count, const cld_array *arrays) {
    finite_context c = {arrays, flag->data};
    for_all(count, arrays, &c, finite_range);
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

const cld_optim_ops cld_cpu_optim = {
    .sgd = sgd,
    .ema = ema,
    .all_finite = all_finite,
    .update_scale = update_scale,
};
