/* The dynamic loss scale of fp16: its memory, and the calls to the device for it. Nothing here waits. */
#include "runtime/optim/loss_scale.h"

#include <stdlib.h>

#include "runtime/ops/ops.h"

/* As in torch.amp.GradScaler. */
static const cld_scale_params scale_params = {.growth = 2, .backoff = 0.5, .interval = 2000};
static const double first_scale = 65536;

cld_status cld_loss_scale_start(cld_loss_scale *s, const cld_backend *device) {
    if (s->scale) return CLD_OK;
    CLD_AUTO cld_tensor *scale = cld_tensor_full(CLD_F32, 0, NULL, device, first_scale);
    CLD_AUTO cld_tensor *good = scale ? cld_tensor_full(CLD_I32, 0, NULL, device, 0) : NULL;
    if (!good) return cld_error_code();
    s->scale = cld_tensor_steal(&scale);
    s->good = cld_tensor_steal(&good);
    return CLD_OK;
}

void cld_loss_scale_drop(cld_loss_scale *s) {
    cld_tensor_free(s->scale);
    cld_tensor_free(s->good);
    *s = (cld_loss_scale){0};
}

cld_tensor *cld_loss_scale_gradient(const cld_loss_scale *s, const cld_tensor *loss, double weight) {
    CLD_AUTO cld_tensor *scale = cld_tensor_as(s->scale, loss->a.dtype, cld_device(loss));
    CLD_AUTO cld_tensor *weighted =
        !scale || weight == 1 ? cld_tensor_retain(scale) : cld_unary_op(CLD_MUL_SCALAR, scale, weight, 0);
    return weighted ? cld_reshape(weighted, loss->a.ndim, loss->a.shape) : NULL;
}

cld_status cld_loss_scale_check(cld_tensor *made, cld_tensor *const *params, int count) {
    const cld_backend *device = cld_device(made);
    cld_array *grads = calloc((size_t)count, sizeof *grads);
    int found = 0;
    if (!grads) return cld_fail(CLD_NOMEM, "optimizer: out of memory");
    for (int i = 0; i < count; i++)
        if (params[i]->grad) grads[found++] = params[i]->grad->a;
    cld_status status = cld_kernel(device, optim, all_finite, &made->a, found, grads);
    free(grads);
    return status;
}

cld_status cld_loss_scale_update(cld_loss_scale *s, const cld_tensor *made) {
    atomic_fetch_add(&s->scale->storage->version, 1);
    atomic_fetch_add(&s->good->storage->version, 1);
    return cld_kernel(cld_device(made), optim, update_scale, &s->scale->a, &s->good->a, &made->a,
                      &scale_params);
}
