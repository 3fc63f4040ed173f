/* Data movement off the tape: casts, layouts, devices, single elements. */
#include "runtime/tensor/tensor.h"

#include <string.h>

cld_tensor *cld_tensor_cast(const cld_tensor *x, cld_dtype dtype) {
    CLD_AUTO cld_tensor *y = cld_tensor_new(dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, copy, &y->a, &x->a));
    return cld_tensor_steal(&y);
}

cld_status cld_copy_many(const cld_backend *device, int count, const cld_array *to, const cld_array *from) {
    if (cld_slot(device, math, copy_many)) return device->math->copy_many(count, to, from);
    for (int i = 0; i < count; i++) CLD_TRY(cld_kernel(device, math, copy, &to[i], &from[i]));
    return CLD_OK;
}

cld_tensor *cld_tensor_strided(cld_tensor *x) {
    return x->a.layout == CLD_STRIDED ? cld_tensor_retain(x) : cld_tensor_cast(x, x->a.dtype);
}

cld_status cld_tensor_unblock(cld_tensor *x) {
    if (x->a.layout == CLD_STRIDED) return CLD_OK;
    CLD_AUTO cld_tensor *plain = cld_tensor_cast(x, x->a.dtype);
    if (!plain) return cld_error_code();
    cld_storage *old = x->storage;
    atomic_store(&plain->storage->version, atomic_load(&old->version));
    x->storage = plain->storage;
    x->a = plain->a;
    plain->storage = old; /* freed with plain */
    return CLD_OK;
}

cld_tensor *cld_tensor_contiguous(cld_tensor *x) {
    return cld_is_contiguous(&x->a) ? cld_tensor_retain(x) : cld_tensor_cast(x, x->a.dtype);
}

cld_status cld_tensor_from_host(cld_tensor *out, const void *host, size_t bytes) {
    atomic_fetch_add(&out->storage->version, 1);
    return cld_device(out)->memory->from_host(out->a.data, host, bytes);
}

cld_status cld_tensor_to_host(const cld_tensor *x, void *host, size_t bytes) {
    return cld_device(x)->memory->to_host(host, x->a.data, bytes);
}

/* A captured graph copies what the host's memory holds at each replay. This is right only for a constant that was made
 * since the capture began. */
static cld_status check_is_constant(const cld_tensor *x, const cld_backend *device) {
    if (!cld_capturing() || x->storage->born == cld_capture_epoch()) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s on the cpu: a captured graph would copy its present values at every replay; move it "
                    "to %s before the capture, or make it an argument of the step",
                    cld_describe(&x->a), device->name);
}

cld_tensor *cld_tensor_to(const cld_tensor *x, const cld_backend *device) {
    const cld_backend *cpu = cld_cpu_backend();
    if (device == cld_device(x)) return cld_tensor_cast(x, x->a.dtype);
    if (cld_device(x) == cpu) CLD_TRY_NULL(check_is_constant(x, device));
    CLD_AUTO cld_tensor *dense = cld_tensor_contiguous((cld_tensor *)x);
    CLD_AUTO cld_tensor *y = cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, device);
    if (!dense || !y) return NULL;
    size_t bytes = (size_t)cld_numel(&x->a) * cld_dtype_size(x->a.dtype);
    if (cld_device(x) == cpu) {
        CLD_TRY_NULL(cld_tensor_from_host(y, dense->a.data, bytes));
    } else if (device == cpu) {
        CLD_TRY_NULL(cld_tensor_to_host(dense, y->a.data, bytes));
    } else {
        return cld_fail_null(CLD_UNSUPPORTED, "to: cannot copy from %s to %s directly; copy to the cpu first",
                             cld_device(x)->name, device->name);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_tensor_as(cld_tensor *x, cld_dtype dtype, const cld_backend *device) {
    CLD_AUTO cld_tensor *cast = x->a.dtype == dtype ? cld_tensor_retain(x) : cld_tensor_cast(x, dtype);
    if (!cast || device == cld_device(x)) return cld_tensor_steal(&cast);
    return cld_tensor_to(cast, device);
}

cld_tensor *cld_tensor_on_host(cld_tensor *x) {
    const cld_backend *cpu = cld_cpu_backend();
    return cld_device(x) == cpu ? cld_tensor_contiguous(x) : cld_tensor_to(x, cpu);
}

/* One past the last byte. */
static const char *end_of(const cld_array *a) {
    int64_t last = 0;
    for (int i = 0; i < a->ndim; i++) last += (a->shape[i] - 1) * a->strides[i];
    if (a->layout == CLD_BLOCKED) last = cld_numel(a) - 1;
    return (const char *)a->data + (last + 1) * (int64_t)cld_dtype_size(a->dtype);
}

bool cld_tensor_overlaps(const cld_tensor *out, const cld_tensor *x) {
    const cld_array *a = &out->a, *b = &x->a;
    if (out->storage != x->storage || cld_numel(a) == 0 || cld_numel(b) == 0) return false;
    bool same = a->data == b->data && a->layout == b->layout && cld_same_shape(a, b) &&
                memcmp(a->strides, b->strides, sizeof a->strides[0] * (size_t)a->ndim) == 0;
    return !same && (const char *)a->data < end_of(b) && (const char *)b->data < end_of(a);
}

/* x in out's shape: the last dimensions correspond; stride 0 where one element is repeated. */
static cld_status broadcast_to(cld_array *x, const cld_array *out) {
    cld_array from = *x;
    int lead = out->ndim - x->ndim;
    bool fits = lead >= 0;
    x->ndim = out->ndim;
    for (int i = 0; fits && i < out->ndim; i++) {
        int64_t extent = i < lead ? 1 : from.shape[i - lead];
        fits = extent == out->shape[i] || extent == 1;
        x->shape[i] = out->shape[i];
        x->strides[i] = extent == 1 ? 0 : from.strides[i - lead];
    }
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s does not broadcast to %s", cld_describe(&from), cld_describe(out));
}

cld_status cld_tensor_copy(cld_tensor *out, const cld_tensor *x) {
    cld_array from = x->a;
    bool same = cld_same_shape(&out->a, &x->a);
    if (cld_device(out) != cld_device(x))
        return cld_fail(CLD_INVALID, "source on %s, destination on %s", cld_device(x)->name,
                        cld_device(out)->name);
    if (cld_tensor_overlaps(out, x) || (!same && x->a.layout == CLD_BLOCKED)) {
        CLD_AUTO cld_tensor *apart = cld_tensor_cast(x, x->a.dtype);
        return apart ? cld_tensor_copy(out, apart) : cld_error_code();
    }
    if (!same) CLD_TRY(broadcast_to(&from, &out->a));
    atomic_fetch_add(&out->storage->version, 1);
    return cld_kernel(cld_device(out), math, copy, &out->a, &from);
}

cld_status cld_tensor_fill(cld_tensor *out, cld_scalar value) {
    atomic_fetch_add(&out->storage->version, 1);
    return cld_kernel(cld_device(out), math, fill, &out->a, value);
}

cld_status cld_tensor_read(const cld_tensor *x, const int64_t *index, double *out) {
    if (x->a.layout != CLD_STRIDED) {
        CLD_AUTO cld_tensor *plain = cld_tensor_cast(x, x->a.dtype);
        if (!plain) return cld_error_code();
        return cld_tensor_read(plain, index, out);
    }
    cld_array one = {.data = x->a.data, .dtype = x->a.dtype};
    int64_t offset = 0;
    for (int i = 0; i < x->a.ndim; i++) offset += index[i] * x->a.strides[i];
    one.data = (char *)x->a.data + offset * (int64_t)cld_dtype_size(x->a.dtype);
    CLD_AUTO cld_tensor *as_double = cld_tensor_new(CLD_F64, 0, NULL, cld_device(x));
    if (!as_double) return cld_error_code();
    CLD_TRY(cld_kernel(cld_device(x), math, copy, &as_double->a, &one));
    return cld_tensor_to_host(as_double, out, sizeof *out);
}

cld_status cld_tensor_item(const cld_tensor *x, double *out) {
    static const int64_t origin[CLD_MAX_DIMS];
    if (cld_numel(&x->a) != 1)
        return cld_fail(CLD_INVALID, "item: the tensor must have one element, got %s", cld_describe(&x->a));
    return cld_tensor_read(x, origin, out);
}
