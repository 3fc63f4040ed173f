/* clip_grad_norm of existing gradients. */
#include "runtime/optim/clip.h"

#include <stdlib.h>

#include "runtime/autograd/tape.h"
#include "runtime/optim/overlap.h"
#include "runtime/ops/ops.h"

static cld_status check(const cld_tensor *grad, const cld_backend *device, int i) {
    if (grad->loss_scaled)
        return cld_fail(
            CLD_INVALID,
            "clip_grad_norm: the gradient of parameter %d is multiplied by the loss scale of fp16; "
            "give the step 'clip' instead",
            i + 1);
    if (cld_device(grad) != device)
        return cld_fail(CLD_INVALID,
                        "clip_grad_norm: the gradient of parameter %d is on %s, parameter 1 on %s", i + 1,
                        cld_device(grad)->name, device->name);
    if ((grad->a.dtype != CLD_F32 && grad->a.dtype != CLD_F64) || !cld_is_contiguous(&grad->a))
        return cld_fail(CLD_INVALID,
                        "clip_grad_norm: the gradient of parameter %d is %s; expected dense f32 or f64",
                        i + 1, cld_describe(&grad->a));
    return CLD_OK;
}

static cld_status gather(cld_array *grads, int *found, bool *wide, cld_tensor *const *params, int count) {
    *found = 0;
    *wide = true;
    for (int i = 0; i < count; i++) {
        cld_tensor *grad = params[i]->grad;
        if (!grad) continue;
        CLD_TRY(check(grad, cld_device(params[0]), i));
        *wide = *wide && grad->a.dtype == CLD_F64;
        grads[(*found)++] = grad->a;
    }
    return CLD_OK;
}

static cld_tensor *clip(const cld_array *grads, int count, bool wide, const cld_backend *device,
                        double max_norm) {
    const cld_step_control control = {0};
    if (!cld_slot(device, optim, grad_norm)) return cld_unsupported("clip_grad_norm", device), NULL;
    CLD_AUTO cld_tensor *norm = cld_tensor_new(wide ? CLD_F64 : CLD_F32, 0, NULL, device);
    CLD_AUTO cld_tensor *factor = norm ? cld_tensor_new(CLD_F64, 0, NULL, device) : NULL;
    if (!factor) return NULL;
    CLD_TRY_NULL(device->optim->grad_norm(&norm->a, &factor->a, count, grads, max_norm, &control));
    CLD_TRY_NULL(device->optim->scale(count, grads, &factor->a));
    return cld_tensor_steal(&norm);
}

cld_tensor *cld_clip_grad_norm(cld_tensor *const *params, int count, double max_norm) {
    int found;
    bool wide;
    if (!(max_norm > 0))
        return cld_fail_null(CLD_INVALID, "clip_grad_norm: the largest norm is %g; expected a number above 0",
                             max_norm);
    CLD_TRY_NULL(cld_reduce_gradients(params, count));
    CLD_TRY_NULL(cld_dense_gradients(params, count)); /* they are written to */
    cld_array *grads = calloc((size_t)count + 1, sizeof *grads);
    if (!grads) return cld_fail_null(CLD_NOMEM, "clip_grad_norm: out of memory");
    cld_tensor *norm = NULL;
    if (gather(grads, &found, &wide, params, count) == CLD_OK) {
        const cld_backend *device = count ? cld_device(params[0]) : cld_cpu_backend();
        norm =
            found ? clip(grads, found, wide, device, max_norm) : cld_tensor_full(CLD_F32, 0, NULL, device, 0);
    }
    for (int i = 0; norm && i < count; i++)
        if (params[i]->grad) atomic_fetch_add(&params[i]->grad->storage->version, 1);
    free(grads);
    return norm;
}
