/* Storage, views, and basic facts about tensors. move.c moves data. */
#include "runtime/tensor/tensor.h"
#include "runtime/tensor/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_llong tensors_alive;

int64_t cld_tensors_alive(void) { return atomic_load(&tensors_alive); }

/* ---- facts --------------------------------------------------------------------------------------------------- */

static const char *const dtype_names[] = {
#define CLD_NAME(name, text, bytes) [CLD_##name] = text,
    CLD_DTYPES(CLD_NAME)
#undef CLD_NAME
};

const char *cld_dtype_name(cld_dtype dtype) { return dtype_names[dtype]; }

bool cld_dtype_parse(const char *name, cld_dtype *out) {
    for (int i = 0; i < CLD_DTYPE_COUNT; i++)
        if (strcmp(name, dtype_names[i]) == 0) {
            *out = (cld_dtype)i;
            return true;
        }
    return false;
}

bool cld_same_shape(const cld_array *a, const cld_array *b) {
    return a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim) == 0;
}

const char *cld_describe(const cld_array *a) {
    static _Thread_local char ring[8][200];
    static _Thread_local int next;
    char *text = ring[next = (next + 1) % 8];
    size_t room = sizeof ring[0];
    int used = snprintf(text, room, "%s[", cld_dtype_name(a->dtype));
    for (int i = 0; i < a->ndim && (size_t)used < room; i++)
        used += snprintf(text + used, room - (size_t)used, i ? ", %lld" : "%lld", (long long)a->shape[i]);
    if ((size_t)used < room) snprintf(text + used, room - (size_t)used, "]");
    return text;
}

cld_status cld_unsupported(const char *op, const cld_backend *device) {
    return cld_fail(CLD_UNSUPPORTED, "%s: not available on %s", op, device->name);
}

/* ---- storage ------------------------------------------------------------------------------------------------- */

static cld_storage *storage_new(const cld_backend *device, size_t bytes) {
    cld_storage *s = calloc(1, sizeof *s);
    if (!s) return cld_fail_null(CLD_NOMEM, "out of memory for a tensor's header");
    if (device->memory->allocate(&s->data, bytes) != CLD_OK) {
        free(s);
        return NULL;
    }
    s->refs = s->watchers = 1;
    s->device = device;
    s->bytes = bytes;
    s->born = cld_capture_epoch();
    s->recording = cld_capture_current();
    return s;
}

cld_storage *cld_storage_watch(cld_storage *s) {
    atomic_fetch_add(&s->watchers, 1);
    return s;
}

void cld_storage_unwatch(cld_storage *s) {
    if (s && atomic_fetch_sub(&s->watchers, 1) == 1) free(s);
}

static void storage_free(cld_storage *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    s->device->memory->release(s->data, s->bytes);
    cld_recording_free(s->recording);
    cld_storage_unwatch(s);
}

/* ---- lifetime ------------------------------------------------------------------------------------------------ */

/* The size in bytes of any part of such a tensor fits an int64_t, even if another extent is 0. */
static cld_status check_shape(int ndim, const int64_t *shape) {
    int64_t count = 1;
    if (ndim > CLD_MAX_DIMS)
        return cld_fail(CLD_INVALID, "a tensor has at most %d dimensions, got %d", CLD_MAX_DIMS, ndim);
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return cld_fail(CLD_INVALID, "dimension %d of a tensor cannot be %lld", i + 1,
                            (long long)shape[i]);
        if (shape[i] == 0) continue;
        if (count > INT64_MAX / 16 / shape[i])
            return cld_fail(CLD_NOMEM, "out of memory: a tensor with that many elements cannot exist");
        count *= shape[i];
    }
    return CLD_OK;
}

cld_tensor *cld_tensor_new(cld_dtype dtype, int ndim, const int64_t *shape, const cld_backend *device) {
    cld_array a = {.dtype = dtype, .layout = CLD_STRIDED, .ndim = ndim};
    int64_t count = 1;
    CLD_TRY_NULL(check_shape(ndim, shape));
    for (int i = ndim - 1; i >= 0; i--) {
        a.shape[i] = shape[i];
        a.strides[i] = count;
        count *= shape[i];
    }
    cld_tensor *t = calloc(1, sizeof *t);
    if (!t) return cld_fail_null(CLD_NOMEM, "out of memory for a tensor's header");
    t->storage = storage_new(device, (size_t)count * cld_dtype_size(dtype));
    if (!t->storage) {
        free(t);
        return NULL;
    }
    a.data = t->storage->data;
    t->a = a;
    t->refs = 1;
    atomic_fetch_add(&tensors_alive, 1);
    return t;
}

cld_tensor *cld_tensor_new_like(const cld_tensor *x) {
    cld_tensor *t = cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (t) t->a.layout = x->a.layout;
    return t;
}

cld_tensor *cld_tensor_new_activation(cld_dtype dtype, const int64_t shape[4], const cld_backend *device) {
    cld_tensor *t = cld_tensor_new(dtype, 4, shape, device);
    if (t && cld_slot(device, conv, layout)) t->a.layout = device->conv->layout(dtype, shape);
    return t;
}

cld_tensor *cld_tensor_full(cld_dtype dtype, int ndim, const int64_t *shape, const cld_backend *device,
                            double v) {
    CLD_AUTO cld_tensor *t = cld_tensor_new(dtype, ndim, shape, device);
    if (!t) return NULL;
    CLD_TRY_NULL(cld_tensor_fill(t, cld_real(v)));
    return cld_tensor_steal(&t);
}

cld_tensor *cld_tensor_scalar(cld_dtype dtype, cld_scalar v, const cld_backend *device) {
    CLD_AUTO cld_tensor *t = cld_tensor_new(dtype, 0, NULL, device);
    if (!t) return NULL;
    CLD_TRY_NULL(cld_tensor_fill(t, v));
    return cld_tensor_steal(&t);
}

cld_tensor *cld_tensor_view(const cld_tensor *x, int ndim, const int64_t *shape, const int64_t *strides,
                            void *data) {
    CLD_TRY_NULL(check_shape(ndim, shape));
    cld_tensor *t = calloc(1, sizeof *t);
    if (!t) return cld_fail_null(CLD_NOMEM, "out of memory for a tensor's header");
    t->a = (cld_array){.data = data, .dtype = x->a.dtype, .layout = x->a.layout, .ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        t->a.shape[i] = shape[i];
        t->a.strides[i] = strides[i];
    }
    t->storage = x->storage;
    atomic_fetch_add(&t->storage->refs, 1);
    t->refs = 1;
    atomic_fetch_add(&tensors_alive, 1);
    return t;
}

cld_tensor *cld_tensor_rows(const cld_tensor *x, int64_t first, int64_t count) {
    int64_t shape[CLD_MAX_DIMS], rows = x->a.shape[0];
    size_t row = rows ? (size_t)(cld_numel(&x->a) / rows) * cld_dtype_size(x->a.dtype) : 0;
    memcpy(shape, x->a.shape, sizeof shape);
    shape[0] = count;
    return cld_tensor_view(x, x->a.ndim, shape, x->a.strides, (char *)x->a.data + (size_t)first * row);
}

cld_tensor *cld_tensor_detach(const cld_tensor *x) {
    return cld_tensor_view(x, x->a.ndim, x->a.shape, x->a.strides, x->a.data);
}

cld_tensor *cld_tensor_retain(cld_tensor *x) {
    if (x) atomic_fetch_add(&x->refs, 1);
    return x;
}

void cld_node_free(cld_node *n);
void cld__drop_hooks(struct cld_hook **list);

void cld_tensor_free(cld_tensor *x) {
    if (!x || atomic_fetch_sub(&x->refs, 1) != 1) return;
    cld_tensor_free(x->grad);
    cld_tensor_free(x->grad_came);
    cld_kept_drop(x);
    cld_node_free(x->node);
    cld__drop_hooks(&x->hooks);
    storage_free(x->storage);
    atomic_fetch_sub(&tensors_alive, 1);
    free(x);
}

cld_tensor *cld_tensor_steal(cld_tensor **x) {
    cld_tensor *t = *x;
    *x = NULL;
    return t;
}
