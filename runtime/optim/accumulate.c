/* A step from one loss or from several: begin, add, finish. optimizer.h documents them. */
#include <math.h>

#include "runtime/optim/overlap.h"
#include "runtime/ops/ops.h"
#include "runtime/ops/precision.h"
#include "runtime/optim/optimizer.h"
#include "runtime/tensor/device.h"

static void close_sum(cld_optimizer *s) {
    cld_deferred_drop(&s->sum.later);
    cld_tensor_free(s->sum.made);
    s->sum = (cld_gradient_sum){0};
}

static cld_status closed(cld_optimizer *s, cld_status status) {
    close_sum(s);
    return status;
}

void cld_optimizer_zero_grad(cld_optimizer *s) {
    close_sum(s);
    for (int i = 0; i < s->count; i++) cld_set_gradient(s->params[i], NULL);
}

cld_status cld_optimizer_begin(cld_optimizer *s) {
    if (s->sum.open)
        return closed(s, cld_fail(CLD_INVALID, "%s: begin was called twice without finish", s->rule->name));
    bool scaled = cld_get_precision() == CLD_PRECISION_FP16;
    CLD_TRY(cld__optimizer_compare(s));
    if (scaled) CLD_TRY(cld_loss_scale_start(&s->loss_scale, cld_device(s->skipped)));
    cld_optimizer_zero_grad(s);
    s->sum.open = true;
    s->sum.scaled = scaled;
    return CLD_OK;
}

/* ---- add ------------------------------------------------------------------------------------------------- */

/* Is the loss finite? A 0-d u8 on the parameters' device. */
static cld_tensor *is_finite(cld_tensor *loss, const cld_backend *device) {
    CLD_AUTO cld_tensor *near = cld_tensor_as(loss, loss->a.dtype, device);
    CLD_AUTO cld_tensor *flag = near ? cld_tensor_new(CLD_U8, 0, NULL, device) : NULL;
    if (!flag) return NULL;
    cld_array value = near->a;
    value.ndim = 0;
    CLD_TRY_NULL(
        cld_kernel(device, math, unary, CLD_ISFINITE, &flag->a, &value, cld_integer(0), cld_integer(0)));
    return cld_tensor_steal(&flag);
}

/* The step's flag is cleared by the first loss, on any rank, that is not finite: all ranks use a loss, or none does. */
static cld_status lower_flag(cld_optimizer *s, cld_tensor *loss) {
    CLD_AUTO cld_tensor *finite = is_finite(loss, cld_device(s->skipped));
    if (!finite) return cld_error_code();
    CLD_TRY(cld_all_reduce(&finite, 1, CLD_COMM_MIN, 1));
    if (!s->sum.made) {
        s->sum.made = cld_tensor_steal(&finite);
        return CLD_OK;
    }
    cld_array *made = &s->sum.made->a;
    return cld_kernel(cld_device(s->skipped), math, binary, CLD_AND, made, made, &finite->a);
}

/* A device that queues does all the work, for nothing if a loss turns out not to be finite; on the cpu that is known
 * here. */
static bool is_skipped(const cld_tensor *made) {
    return cld_device(made) == cld_cpu_backend() && *(const uint8_t *)made->a.data == 0;
}

/* The gradient that backward starts with; NULL without an error: 1. */
static cld_status make_seed(cld_tensor **out, const cld_optimizer *s, const cld_tensor *loss, double weight) {
    *out = NULL;
    if (s->sum.scaled)
        *out = cld_loss_scale_gradient(&s->loss_scale, loss, weight);
    else if (weight != 1)
        *out = cld_tensor_full(loss->a.dtype, loss->a.ndim, loss->a.shape, cld_device(loss), weight);
    else
        return CLD_OK;
    return *out ? CLD_OK : cld_error_code();
}

/* After the last loss the gradients are those of all losses, and the end of backward sums them over the ranks. */
static cld_status go_back(cld_optimizer *s, cld_tensor *loss, cld_tensor *seed, bool last) {
    if (!last || cld_dist_alone()) return cld_backward_deferring(loss, seed, NULL, &s->sum.later);
    if (!s->overlap && !(s->overlap = cld_overlap_new(s->params, s->count))) return cld_error_code();
    cld_status status = cld_backward_deferring(loss, seed, cld_overlap_begin(s->overlap), &s->sum.later);
    if (status == CLD_OK) status = cld_overlap_end(s->overlap);
    cld_overlap_reset(s->overlap);
    return status;
}

static cld_status follow(cld_optimizer *s, cld_tensor *loss, double weight, bool last) {
    CLD_AUTO cld_tensor *seed = NULL;
    CLD_TRY(make_seed(&seed, s, loss, weight));
    CLD_TRY(cld_dense_gradients(s->params, s->count)); /* of the earlier losses: they are added to in f32 */
    CLD_TRY(go_back(s, loss, seed, last));
    if (!cld__optimizer_has_gradient(s))
        return cld_fail(CLD_INVALID,
                        "%s: the loss reached none of the parameters; does none require a gradient, or was "
                        "the network moved to a device or cast after %s was made?",
                        s->rule->name, s->rule->name);
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) s->params[i]->grad->loss_scaled = s->sum.scaled;
    return CLD_OK;
}

static cld_status add(cld_optimizer *s, cld_tensor *loss, double weight, bool last) {
    if (!s->sum.open) return cld_fail(CLD_INVALID, "%s: add was called without begin", s->rule->name);
    if (s->sum.ended)
        return cld_fail(CLD_INVALID, "%s: add was called after the last loss; expected finish",
                        s->rule->name);
    if (cld_numel(&loss->a) != 1)
        return cld_fail(CLD_INVALID, "%s: the loss is %s; expected one element", s->rule->name,
                        cld_describe(&loss->a));
    if (!isfinite(weight))
        return cld_fail(CLD_INVALID, "%s: the weight of a loss is %g; expected a finite number",
                        s->rule->name, weight);
    CLD_TRY(lower_flag(s, loss));
    s->sum.ended = last;
    return is_skipped(s->sum.made) ? CLD_OK : follow(s, loss, weight, last);
}

cld_status cld_optimizer_add(cld_optimizer *s, cld_tensor *loss, double weight, bool last) {
    cld_status status = add(s, loss, weight, last);
    return status == CLD_OK ? CLD_OK : closed(s, status);
}

/* ---- finish ---------------------------------------------------------------------------------------------- */

static cld_status count_skipped(cld_optimizer *s, cld_tensor *made) {
    CLD_AUTO cld_tensor *not_made = cld_unary_op(CLD_NOT, made, 0, 0);
    CLD_AUTO cld_tensor *count = not_made ? cld_tensor_cast(not_made, CLD_I64) : NULL;
    return count ? cld_add_(s->skipped, count) : cld_error_code();
}

/* On the cpu, where backward was not run for a skipped step. */
static cld_status skip(cld_optimizer *s, const cld_step_params *p) {
    CLD_TRY(cld_pending_settle());
    if (!p->grad_norm && !(p->clip > 0)) return CLD_OK;
    return cld_tensor_fill(s->grad_norm, cld_real(NAN));
}

static cld_status make(cld_optimizer *s, const cld_step_params *p, cld_tensor *made) {
    CLD_TRY(cld_pending_settle());
    if (!s->sum.ended) CLD_TRY(cld_reduce_gradients(s->params, s->count));
    if (s->sum.scaled) {
        CLD_TRY(cld__optimizer_check_devices(s)); /* the step does this too, but one kernel comes before */
        CLD_TRY(cld_loss_scale_check(made, s->params, s->count));
    }
    CLD_TRY(cld__optimizer_step(s, p, made, s->sum.scaled ? s->loss_scale.scale : NULL));
    CLD_TRY(cld_deferred_run(&s->sum.later, made));
    return cld_device_end_step(cld_device(made));
}

static cld_status finish(cld_optimizer *s, const cld_step_params *p) {
    cld_tensor *made = s->sum.made;
    if (!s->sum.open) return cld_fail(CLD_INVALID, "%s: finish was called without begin", s->rule->name);
    if (!made)
        return cld_fail(CLD_INVALID, "%s: finish was called, but no loss was added since begin",
                        s->rule->name);
    CLD_TRY(cld__optimizer_check_step(s, p));
    CLD_TRY(is_skipped(made) ? skip(s, p) : make(s, p, made));
    CLD_TRY(count_skipped(s, made));
    return s->sum.scaled ? cld_loss_scale_update(&s->loss_scale, made) : CLD_OK;
}

cld_tensor *cld_optimizer_finish(cld_optimizer *s, const cld_step_params *p) {
    cld_status status = finish(s, p);
    CLD_AUTO cld_tensor *made = cld_tensor_retain(s->sum.made);
    close_sum(s);
    return status == CLD_OK ? cld_tensor_steal(&made) : NULL;
}

cld_tensor *cld_optimizer_minimize(cld_optimizer *s, cld_tensor *loss, const cld_step_params *p) {
    CLD_TRY_NULL(cld__optimizer_check_step(s, p));
    CLD_TRY_NULL(cld_optimizer_begin(s));
    CLD_TRY_NULL(cld_optimizer_add(s, loss, 1, true));
    return cld_optimizer_finish(s, p);
}
