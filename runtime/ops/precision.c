#include "runtime/ops/precision.h"

#include <string.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/device.h"
#include "runtime/tensor/kept.h"

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

cld_dtype cld_feature_dtype(const cld_tensor *x) {
    bool widen = cld_dtype_is_half(x->a.dtype) && factor_dtypes[cld_get_precision()] != CLD_F32;
    return widen ? CLD_F32 : x->a.dtype;
}

cld_tensor *cld_unrounded(cld_tensor *x) {
    cld_dtype dtype = cld_feature_dtype(x);
    return dtype == x->a.dtype ? cld_tensor_retain(x) : cld_cast(x, dtype);
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

/* Differs only in dtype and layout: what copy_many can do. */
static bool is_plain(cld_dtype rounded, cld_dtype dtype, const cld_tensor *weight) {
    return rounded == dtype || rounded == weight->a.dtype;
}

enum { RENEWED_AT_ONCE = 512 };

/* Copies `count` weights, in few launches. */
static cld_status renew_some(const cld_backend *device, const cld_kept_stale *stale, int count) {
    cld_array from[RENEWED_AT_ONCE], to[RENEWED_AT_ONCE];
    cld_tensor *copies[RENEWED_AT_ONCE];
    unsigned versions[RENEWED_AT_ONCE];
    int made = 0;
    cld_status status = CLD_OK;
    for (; made < count && status == CLD_OK; made++) {
        cld_tensor *weight = stale[made].weight;
        versions[made] = atomic_load(&weight->storage->version);
        copies[made] = cld_tensor_new(stale[made].dtype, weight->a.ndim, weight->a.shape, device);
        if (!copies[made]) break;
        copies[made]->a.layout = stale[made].layout;
        from[made] = weight->a;
        to[made] = copies[made]->a;
    }
    status = made < count ? cld_error_code() : device->math->copy_many(count, to, from);
    for (int i = 0; i < made; i++) {
        if (status == CLD_OK)
            cld_kept_set(stale[i].weight, copies[i], stale[i].rounded, versions[i]);
        else
            cld_tensor_free(copies[i]);
    }
    return status;
}

/* Renews the copies of all weights along with the one that is asked for. */
static cld_status renew_all(const cld_backend *device) {
    cld_kept_stale stale[RENEWED_AT_ONCE];
    int count = cld_kept_take_stale(device, stale, RENEWED_AT_ONCE), plain = 0;
    for (int i = 0; i < count; i++) {
        cld_kept_stale s = stale[i];
        if (is_plain(s.rounded, s.dtype, s.weight)) {
            stale[i] = stale[plain];
            stale[plain++] = s;
        }
    }
    cld_status status = plain ? renew_some(device, stale, plain) : CLD_OK;
    for (int i = 0; i < count; i++) cld_tensor_free(stale[i].weight);
    return status;
}

cld_tensor *cld_weight_as(cld_tensor *weight, cld_weight_form form) {
    const cld_backend *device = cld_device(weight);
    if (is_in_form(weight, form)) return cld_tensor_contiguous(weight);
    unsigned version = atomic_load(&weight->storage->version);
    cld_tensor *copy = cld_kept_take(weight, form.rounded, form.dtype, form.layout);
    if (!copy && weight->kept.tensor && cld_slot(device, math, copy_many)) {
        CLD_TRY_NULL(renew_all(device));
        copy = cld_kept_take(weight, form.rounded, form.dtype, form.layout);
    }
    if (copy) return copy;
    cld_kept_drop(weight); /* the old copy is stale: its memory is freed first */
    copy = copy_of(weight, form);
    if (copy && !weight->node) cld_kept_set(weight, cld_tensor_retain(copy), form.rounded, version);
    return copy;
}
