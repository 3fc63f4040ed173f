/* Data movement off the tape: casts, layouts, devices, single elements. */
#include "runtime/tensor/tensor.h"

#include <string.h>

cld_tensor *cld_tensor_cast(const cld_tensor *x, cld_dtype dtype) {
    CLD_AUTO cld_tensor *y = cld_tensor_new(dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (!y) return NULL;
    CLD_TRY_NULL(cld_device(x)->math->copy(&y->a, &x->a));
    return cld_tensor_steal(&y);
}

cld_tensor *cld_tensor_strided(cld_tensor *x) {
    return x->a.layout == CLD_STRIDED ? cld_tensor_retain(x) : cld_tensor_cast(x, x->a.dtype);
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

cld_tensor *cld_tensor_to(const cld_tensor *x, const cld_backend *device) {
    const cld_backend *cpu = cld_cpu_backend();
    CLD_AUTO cld_tensor *dense = cld_tensor_cast(x, x->a.dtype);
    if (!dense || device == cld_device(x)) return cld_tensor_steal(&dense);
    CLD_AUTO cld_tensor *y = cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, device);
    if (!y) return NULL;
    size_t bytes = dense->storage->bytes;
    if (cld_device(x) == cpu) {
        CLD_TRY_NULL(cld_tensor_from_host(y, dense->a.data, bytes));
    } else if (device == cpu) {
        CLD_TRY_NULL(cld_tensor_to_host(dense, y->a.data, bytes));
    } else {
        return cld_fail_null(CLD_UNSUPPORTED, "to: copy from %s to %s by way of the cpu", cld_device(x)->name,
                             device->name);
    }
    return cld_tensor_steal(&y);
}

cld_status cld_tensor_copy(cld_tensor *out, const cld_tensor *x) {
    cld_array from = x->a;
    if (cld_device(out) != cld_device(x))
        return cld_fail(CLD_INVALID, "copy: source on %s, destination on %s", cld_device(x)->name,
                        cld_device(out)->name);
    if (!cld_same_shape(&out->a, &x->a)) { /* broadcast: align the last dimensions, stride 0 elsewhere */
        int lead = out->a.ndim - x->a.ndim;
        bool fits = lead >= 0 && x->a.layout == CLD_STRIDED;
        from.ndim = out->a.ndim;
        for (int i = 0; fits && i < out->a.ndim; i++) {
            int64_t extent = i < lead ? 1 : x->a.shape[i - lead];
            if (extent != out->a.shape[i] && extent != 1) fits = false;
            from.shape[i] = out->a.shape[i];
            from.strides[i] = extent == 1 ? 0 : x->a.strides[i - lead];
        }
        if (!fits)
            return cld_fail(CLD_INVALID, "copy: %s does not broadcast to %s", cld_describe(&x->a),
                            cld_describe(&out->a));
    }
    atomic_fetch_add(&out->storage->version, 1);
    return cld_device(out)->math->copy(&out->a, &from);
}

cld_status cld_tensor_fill(cld_tensor *out, double value) {
    atomic_fetch_add(&out->storage->version, 1);
    return cld_device(out)->math->fill(&out->a, value);
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
    CLD_TRY(cld_device(x)->math->copy(&as_double->a, &one));
    return cld_tensor_to_host(as_double, out, sizeof *out);
}

cld_status cld_tensor_item(const cld_tensor *x, double *out) {
    static const int64_t origin[CLD_MAX_DIMS];
    if (cld_numel(&x->a) != 1)
        return cld_fail(CLD_INVALID, "item: the tensor must have one element, got %s", cld_describe(&x->a));
    return cld_tensor_read(x, origin, out);
}
