/* The moving average of a list of tensors: checks; the pass over them is the backend's. */
#include "runtime/optim/optim.h"

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

cld_status cld_ema(cld_tensor *const *targets, cld_tensor *const *sources, int count, double decay,
                   cld_tensor *condition) {
    if (!(decay >= 0 && decay <= 1)) return cld_fail(CLD_INVALID, "ema: decay is %g; expected 0 to 1", decay);
    if (count < 1) return CLD_OK;
    const cld_backend *device = cld_device(targets[0]);
    if (!cld_slot(device, optim, ema)) return cld_unsupported("ema", device);
    CLD_TRY(cld_check_condition("ema", condition, device));
    for (int i = 0; i < count; i++) {
        CLD_TRY(check_pair(targets[i], sources[i], i));
        if (cld_device(targets[i]) != device || cld_device(sources[i]) != device)
            return cld_fail(CLD_INVALID, "ema: tensor %d is not on %s like the first", i + 1, device->name);
    }
    cld_array *arrays = calloc(2 * (size_t)count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "ema: out of memory");
    for (int i = 0; i < count; i++) {
        arrays[i] = targets[i]->a;
        arrays[count + i] = sources[i]->a;
        atomic_fetch_add(&targets[i]->storage->version, 1);
    }
    cld_status status = device->optim->ema(count, arrays, arrays + count, decay, cld_array_of(condition));
    free(arrays);
    return status;
}
