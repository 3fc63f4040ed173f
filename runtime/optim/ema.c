/* The moving average of a list of tensors: checks; the backend does the pass over them. */
#include "runtime/optim/ema.h"

#include <stdlib.h>

#include "runtime/ops/ops.h"

static cld_status check_pair(const cld_tensor *target, const cld_tensor *source, int i) {
    if (!cld_same_shape(&target->a, &source->a) || target->a.dtype != source->a.dtype)
        return cld_fail(CLD_INVALID, "ema: tensor %d is %s in the target, %s in the source", i + 1,
                        cld_describe(&target->a), cld_describe(&source->a));
    if ((target->a.dtype != CLD_F32 && target->a.dtype != CLD_F64) || !cld_is_contiguous(&target->a) ||
        !cld_is_contiguous(&source->a))
        return cld_fail(CLD_INVALID, "ema: tensor %d is %s; expected dense f32 or f64 tensors", i + 1,
                        cld_describe(&target->a));
    return CLD_OK;
}

cld_status cld_ema(cld_tensor *const *targets, cld_tensor *const *sources, int count, cld_decay decay,
                   cld_tensor *condition) {
    if (!decay.tensor && !(decay.value >= 0 && decay.value <= 1))
        return cld_fail(CLD_INVALID, "ema: decay is %g; expected 0 to 1", decay.value);
    if (decay.tensor && cld_numel(&decay.tensor->a) != 1)
        return cld_fail(CLD_INVALID, "ema: decay is %s; expected one element",
                        cld_describe(&decay.tensor->a));
    if (count < 1) return CLD_OK;
    const cld_backend *device = cld_device(targets[0]);
    if (!cld_slot(device, optim, ema)) return cld_unsupported("ema", device);
    CLD_TRY(cld_check_condition("ema", condition, device));
    for (int i = 0; i < count; i++) {
        CLD_TRY(check_pair(targets[i], sources[i], i));
        if (cld_device(targets[i]) != device || cld_device(sources[i]) != device)
            return cld_fail(CLD_INVALID, "ema: tensor %d is not on %s like the first", i + 1, device->name);
    }
    CLD_AUTO cld_tensor *on_device = decay.tensor ? cld_tensor_as(decay.tensor, CLD_F64, device) : NULL;
    if (decay.tensor && !on_device) return cld_error_code();
    cld_array *arrays = calloc(2 * (size_t)count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "ema: out of memory");
    for (int i = 0; i < count; i++) {
        arrays[i] = targets[i]->a;
        arrays[count + i] = sources[i]->a;
        atomic_fetch_add(&targets[i]->storage->version, 1);
    }
    cld_status status = device->optim->ema(count, arrays, arrays + count, decay.value,
                                           cld_array_of(on_device), cld_array_of(condition));
    free(arrays);
    return status;
}
