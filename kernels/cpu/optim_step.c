/* The step of each rule (runtime/optim/{sgd,lars,adam}.c): one pass over all parameters, bounded by memory bandwidth. */
#include <math.h>

#include "kernels/cpu/optim.h"
#include "kernels/cpu/simd.h"

typedef struct step_context {
    cld_rule rule;
    const cld_step_tensor *tensors;
    const cld_rule_settings *settings;
    double *ratios;   /* lars: per tensor, the factor of its gradient */
    const double *lr; /* replaces the settings', or NULL */
    double unscale;   /* factor of the gradients */
} step_context;

static const cld_rule_settings *settings_of(const step_context *c, int i) {
    return &c->settings[c->tensors[i].settings];
}

static double rate_of(const step_context *c, int i) {
    const cld_rule_settings *s = settings_of(c, i);
    return (c->lr ? *c->lr : s->lr) * s->lr_factor;
}

static int64_t size_of(const void *context, int i) { return ((const step_context *)context)->tensors[i].n; }

/* ---- sgd ----------------------------------------------------------------------------------------------- */

typedef struct sgd_scalars {
    double lr, momentum, decay, fresh, unscale;
    bool nesterov;
} sgd_scalars;

CLD_SIMD static void sgd_f32(float *w, const float *grad, float *buffer, int64_t n, const sgd_scalars *s) {
    float lr = (float)s->lr, momentum = (float)s->momentum, decay = (float)s->decay;
    float fresh = (float)s->fresh, unscale = (float)s->unscale;
    bool nesterov = s->nesterov;
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

static void sgd_f64(double *w, const double *grad, double *buffer, int64_t n, const sgd_scalars *s) {
    for (int64_t i = 0; i < n; i++) {
        double g = s->unscale * grad[i] + s->decay * w[i];
        if (buffer) {
            buffer[i] = s->momentum * buffer[i] + s->fresh * g;
            g = s->nesterov ? g + s->momentum * buffer[i] : buffer[i];
        }
        w[i] -= s->lr * g;
    }
}

static void sgd_range(const step_context *c, int i, int64_t start, int64_t n) {
    const cld_step_tensor *t = &c->tensors[i];
    const cld_rule_settings *p = settings_of(c, i);
    bool first = t->steps && *t->steps == 0;
    const sgd_scalars s = {.lr = rate_of(c, i),
                           .momentum = p->momentum,
                           .decay = p->weight_decay,
                           .fresh = first ? 1 : 1 - p->dampening,
                           .unscale = c->unscale,
                           .nesterov = p->nesterov};
    void *w = t->param, *buffer = t->slots[0];
    if (t->dtype == CLD_F32)
        sgd_f32((float *)w + start, (const float *)t->grad + start, buffer ? (float *)buffer + start : NULL,
                n, &s);
    else
        sgd_f64((double *)w + start, (const double *)t->grad + start,
                buffer ? (double *)buffer + start : NULL, n, &s);
}

/* ---- lars ---------------------------------------------------------------------------------------------- */

typedef struct lars_scalars {
    double lr, momentum, decay, ratio, unscale;
} lars_scalars;

static lars_scalars lars_of(const step_context *c, int i) {
    const cld_rule_settings *p = settings_of(c, i);
    return (lars_scalars){.lr = rate_of(c, i),
                          .momentum = p->momentum,
                          .decay = p->adapt ? p->weight_decay : 0,
                          .ratio = c->ratios[i],
                          .unscale = c->unscale};
}

CLD_SIMD static void lars_f32(float *w, const float *grad, float *buffer, int64_t n, const lars_scalars *s) {
    float lr = (float)s->lr, momentum = (float)s->momentum, decay = (float)s->decay;
    float ratio = (float)s->ratio, unscale = (float)s->unscale;
    if (!buffer) {
        for (int64_t i = 0; i < n; i++) w[i] -= lr * (ratio * (unscale * grad[i] + decay * w[i]));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float b = momentum * buffer[i] + ratio * (unscale * grad[i] + decay * w[i]);
        buffer[i] = b;
        w[i] -= lr * b;
    }
}

static void lars_f64(double *w, const double *grad, double *buffer, int64_t n, const lars_scalars *s) {
    for (int64_t i = 0; i < n; i++) {
        double g = s->ratio * (s->unscale * grad[i] + s->decay * w[i]);
        if (buffer) g = buffer[i] = s->momentum * buffer[i] + g;
        w[i] -= s->lr * g;
    }
}

static void lars_range(const step_context *c, int i, int64_t start, int64_t n) {
    const cld_step_tensor *t = &c->tensors[i];
    const lars_scalars s = lars_of(c, i);
    void *w = t->param, *buffer = t->slots[0];
    if (t->dtype == CLD_F32)
        lars_f32((float *)w + start, (const float *)t->grad + start, buffer ? (float *)buffer + start : NULL,
                 n, &s);
    else
        lars_f64((double *)w + start, (const double *)t->grad + start,
                 buffer ? (double *)buffer + start : NULL, n, &s);
}

CLD_SIMD static double squares_f32(const float *w, const float *grad, int64_t n, float unscale, float decay) {
    CLD_LANE_SUM(double,
                 (double)(unscale * grad[i] + decay * w[i]) * (double)(unscale * grad[i] + decay * w[i]));
}

CLD_SIMD static double squares_f64(const double *w, const double *grad, int64_t n, double unscale,
                                   double decay) {
    CLD_LANE_SUM(double, (unscale * grad[i] + decay * w[i]) * (unscale * grad[i] + decay * w[i]));
}

/* |w|^2, and |g|^2 of the gradient with its weight decay. */
static void lars_piece(const void *context, int i, int64_t start, int64_t end, double out[2]) {
    const step_context *c = context;
    const cld_step_tensor *t = &c->tensors[i];
    double decay = settings_of(c, i)->weight_decay;
    int64_t n = end - start;
    if (t->dtype == CLD_F32) {
        const float *w = (const float *)t->param + start, *grad = (const float *)t->grad + start;
        out[0] = squares_f32(w, w, n, 1, 0);
        out[1] = squares_f32(w, grad, n, (float)c->unscale, (float)decay);
    } else {
        const double *w = (const double *)t->param + start, *grad = (const double *)t->grad + start;
        out[0] = squares_f64(w, w, n, 1, 0);
        out[1] = squares_f64(w, grad, n, c->unscale, decay);
    }
}

static int64_t adapted_size(const void *context, int i) {
    return settings_of(context, i)->adapt ? size_of(context, i) : 0;
}

/* sums: two values per tensor; the first becomes the ratio. */
static cld_status find_ratios(step_context *c, int count, double *sums) {
    CLD_TRY(cld__sum_all(sums, count, adapted_size, c, lars_piece));
    for (int i = 0; i < count; i++) {
        double w = sqrt(sums[2 * i]), g = sqrt(sums[2 * i + 1]);
        sums[i] = settings_of(c, i)->adapt && w > 0 && g > 0 ? settings_of(c, i)->eta * w / g : 1;
    }
    c->ratios = sums;
    return CLD_OK;
}

/* ---- adam ---------------------------------------------------------------------------------------------- */

typedef struct adam_scalars {
    double unscale, coupled, keep; /* g = unscale grad + coupled w, and w is multiplied by keep */
    double beta1, beta2, rate, root, eps;
} adam_scalars;

static adam_scalars adam_of(const step_context *c, int i) {
    const cld_rule_settings *p = settings_of(c, i);
    double t = (double)*c->tensors[i].steps + 1, lr = rate_of(c, i);
    return (adam_scalars){.unscale = c->unscale,
                          .coupled = p->decoupled ? 0 : p->weight_decay,
                          .keep = p->decoupled ? 1 - lr * p->weight_decay : 1,
                          .beta1 = p->beta1,
                          .beta2 = p->beta2,
                          .rate = lr / (1 - pow(p->beta1, t)),
                          .root = 1 / sqrt(1 - pow(p->beta2, t)),
                          .eps = p->eps};
}

CLD_SIMD static void adam_f32(float *w, const float *grad, float *m, float *v, int64_t n,
                              const adam_scalars *s) {
    float unscale = (float)s->unscale, coupled = (float)s->coupled, keep = (float)s->keep;
    float beta1 = (float)s->beta1, take1 = (float)(1 - s->beta1);
    float beta2 = (float)s->beta2, take2 = (float)(1 - s->beta2);
    float rate = (float)s->rate, root = (float)s->root, eps = (float)s->eps;
    for (int64_t i = 0; i < n; i++) {
        float g = unscale * grad[i] + coupled * w[i];
        float m1 = beta1 * m[i] + take1 * g, v1 = beta2 * v[i] + take2 * g * g;
        m[i] = m1;
        v[i] = v1;
        w[i] = keep * w[i] - rate * m1 / (sqrtf(v1) * root + eps);
    }
}

static void adam_f64(double *w, const double *grad, double *m, double *v, int64_t n, const adam_scalars *s) {
    double take1 = 1 - s->beta1, take2 = 1 - s->beta2;
    for (int64_t i = 0; i < n; i++) {
        double g = s->unscale * grad[i] + s->coupled * w[i];
        m[i] = s->beta1 * m[i] + take1 * g;
        v[i] = s->beta2 * v[i] + take2 * g * g;
        w[i] = s->keep * w[i] - s->rate * m[i] / (sqrt(v[i]) * s->root + s->eps);
    }
}

static void adam_range(const step_context *c, int i, int64_t start, int64_t n) {
    const cld_step_tensor *t = &c->tensors[i];
    const adam_scalars s = adam_of(c, i);
    if (t->dtype == CLD_F32)
        adam_f32((float *)t->param + start, (const float *)t->grad + start, (float *)t->slots[0] + start,
                 (float *)t->slots[1] + start, n, &s);
    else
        adam_f64((double *)t->param + start, (const double *)t->grad + start, (double *)t->slots[0] + start,
                 (double *)t->slots[1] + start, n, &s);
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static void step_range(const void *context, int i, int64_t start, int64_t end) {
    const step_context *c = context;
    if (c->rule == CLD_SGD)
        sgd_range(c, i, start, end - start);
    else if (c->rule == CLD_LARS)
        lars_range(c, i, start, end - start);
    else
        adam_range(c, i, start, end - start);
}

cld_status cld__optim_step(cld_rule rule, int count, const cld_step_tensor *tensors,
                           const cld_rule_settings *settings, const cld_step_control *control) {
    step_context c = {rule, tensors, settings, NULL, NULL, 1};
    if (!cld__holds(control->condition)) return CLD_OK;
    if (control->lr) c.lr = control->lr->data;
    if (control->scale) c.unscale = 1 / (double)*(const float *)control->scale->data;
    if (control->factor) c.unscale *= *(const double *)control->factor->data;
    void *sums = NULL;
    size_t bytes = rule == CLD_LARS ? sizeof(double) * 2 * (size_t)count : 0;
    if (bytes) CLD_TRY(cld_cpu_memory.allocate(&sums, bytes));
    cld_status status = bytes ? find_ratios(&c, count, sums) : CLD_OK;
    if (status == CLD_OK) {
        cld__for_all(count, size_of, &c, step_range);
        for (int i = 0; i < count; i++)
            if (tensors[i].steps && tensors[i].n > 0) ++*tensors[i].steps;
    }
    if (bytes) cld_cpu_memory.release(sums, bytes);
    return status;
}
