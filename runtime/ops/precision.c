#include "runtime/ops/precision.h"

#include <pthread.h>
#include <string.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/device.h"

static const char *const names[] = {
#define CLD_NAME(name, text, dtype) [CLD_PRECISION_##name] = text,
    CLD_PRECISIONS(CLD_NAME)
#undef CLD_NAME
};

static const cld_dtype factor_dtypes[] = {
#define CLD_DTYPE_OF(name, text, dtype) [CLD_PRECISION_##name] = dtype,
    CLD_PRECISIONS(CLD_DTYPE_OF)
#undef CLD_DTYPE_OF
};

const char *cld_precision_name(cld_precision p) { return names[p]; }

cld_status cld_precision_parse(const char *name, cld_precision *out) {
    for (int i = 0; i < CLD_PRECISION_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (cld_precision)i;
            return CLD_OK;
        }
    return cld_fail(CLD_INVALID, "there is no precision '%s'; expected fp32, tf32, bf16 or fp16", name);
}

static atomic_int current = CLD_PRECISION_FP32;

cld_precision cld_get_precision(void) { return (cld_precision)atomic_load(&current); }

void cld_set_precision(cld_precision p) {
    atomic_store(&current, (int)p);
    cld_device_allow_tf32(p != CLD_PRECISION_FP32);
}

cld_dtype cld_factor_dtype(const cld_tensor *x) {
    return x->a.dtype == CLD_F32 ? factor_dtypes[cld_get_precision()] : x->a.dtype;
}

cld_tensor *cld_unrounded(cld_tensor *x) {
    bool widen = cld_dtype_is_half(x->a.dtype) && factor_dtypes[cld_get_precision()] != CLD_F32;
    return widen ? cld_cast(x, CLD_F32) : cld_tensor_retain(x);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static cld_tensor *copy_of(const cld_tensor *weight, cld_weight_form form) {
    const cld_backend *device = cld_device(weight);
    CLD_AUTO cld_tensor *rounded = NULL;
    if (form.rounded != form.dtype && form.rounded != weight->a.dtype) {
        rounded = cld_tensor_cast(weight, form.rounded);
        if (!rounded) return NULL;
    }
    CLD_AUTO cld_tensor *copy = cld_tensor_new(form.dtype, weight->a.ndim, weight->a.shape, device);
    if (!copy) return NULL;
    copy->a.layout = form.layout;
    CLD_TRY_NULL(cld_kernel(device, math, copy, &copy->a, rounded ? &rounded->a : &weight->a));
    return cld_tensor_steal(&copy);
}

static bool is_in_form(const cld_tensor *weight, cld_weight_form form) {
    return weight->a.dtype == form.dtype && form.rounded == form.dtype && form.layout == CLD_STRIDED;
}

/* Guards what weights keep: a network may serve several threads. */
static pthread_mutex_t keeping = PTHREAD_MUTEX_INITIALIZER;

static cld_tensor *take_kept(cld_tensor *weight, cld_weight_form form, unsigned version) {
    const cld_kept_copy *kept = &weight->kept;
    pthread_mutex_lock(&keeping);
    bool valid = kept->tensor && kept->version == version && kept->epoch == cld_capture_epoch() &&
                 kept->rounded == form.rounded && kept->tensor->a.dtype == form.dtype &&
                 kept->tensor->a.layout == form.layout;
    cld_tensor *copy = valid ? cld_tensor_retain(kept->tensor) : NULL;
    pthread_mutex_unlock(&keeping);
    return copy;
}

static void keep(cld_tensor *weight, cld_kept_copy copy) {
    pthread_mutex_lock(&keeping);
    cld_tensor *before = weight->kept.tensor;
    weight->kept = copy;
    pthread_mutex_unlock(&keeping);
    cld_tensor_free(before);
}

cld_tensor *cld_weight_as(cld_tensor *weight, cld_weight_form form) {
    if (is_in_form(weight, form)) return cld_tensor_contiguous(weight);
    unsigned version = atomic_load(&weight->storage->version);
    CLD_AUTO cld_tensor *copy = take_kept(weight, form, version);
    if (copy) return cld_tensor_steal(&copy);
    keep(weight, (cld_kept_copy){0}); /* what was kept is out of date: its memory goes first */
    copy = copy_of(weight, form);
    if (copy && !weight->node)
        keep(weight, (cld_kept_copy){cld_tensor_retain(copy), form.rounded, version, cld_capture_epoch()});
    return cld_tensor_steal(&copy);
}
