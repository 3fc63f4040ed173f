/* Tensors for the fuzzers, in place of runtime/tensor. `made` adds up the bytes of all tensors and must stay below
 * `most`, and each view must lie in its storage. */
#ifndef CLD_SPEC_FUZZ_TENSORS_H
#define CLD_SPEC_FUZZ_TENSORS_H

#include <stdlib.h>
#include <string.h>

#include "runtime/tensor/tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t made, most; /* bytes of tensors */

static void require(int holds) {
    if (!holds) abort();
}

const cld_backend *cld_cpu_backend(void) { return NULL; }

cld_tensor *cld_tensor_new(cld_dtype dtype, int ndim, const int64_t *shape, const cld_backend *device) {
    int64_t bytes = (int64_t)cld_dtype_size(dtype);
    for (int i = 0; i < ndim; i++) {
        require(shape[i] >= 0);
        if (__builtin_mul_overflow(bytes, shape[i], &bytes)) return cld_fail_null(CLD_INVALID, "too large");
    }
    made += (size_t)bytes;
    require(made <= most);
    cld_tensor *t = calloc(1, sizeof *t);
    cld_storage *s = calloc(1, sizeof *s);
    require(t && s);
    s->refs = t->refs = 1;
    s->bytes = (size_t)bytes;
    s->data = malloc(s->bytes ? s->bytes : 1); /* not one more, so that an access beyond is found */
    require(s->data != NULL);
    s->device = device;
    t->storage = s;
    t->a = (cld_array){.data = s->data, .dtype = dtype, .ndim = ndim};
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        t->a.shape[i] = shape[i];
        t->a.strides[i] = stride;
        stride *= shape[i];
    }
    return t;
}

cld_tensor *cld_tensor_view(const cld_tensor *x, int ndim, const int64_t *shape, const int64_t *strides,
                            void *data) {
    uint64_t last = 0, size = cld_dtype_size(x->a.dtype),
             begin = (uint64_t)((char *)data - (char *)x->storage->data);
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        uint64_t way;
        require(shape[i] >= 0 && strides[i] >= 0);
        if (shape[i] == 0) empty = true;
        if (empty) continue;
        require(!__builtin_mul_overflow((uint64_t)shape[i] - 1, (uint64_t)strides[i], &way));
        require(!__builtin_add_overflow(last, way, &last));
    }
    require(begin <= x->storage->bytes);
    require(empty || (last < x->storage->bytes && begin + (last + 1) * size <= x->storage->bytes));
    cld_tensor *t = calloc(1, sizeof *t);
    require(t != NULL);
    t->refs = 1;
    t->storage = x->storage;
    t->storage->refs++;
    t->a = (cld_array){.data = data, .dtype = x->a.dtype, .ndim = ndim};
    return t;
}

void cld_tensor_free(cld_tensor *t) {
    if (!t || --t->refs) return;
    if (--t->storage->refs == 0) {
        free(t->storage->data);
        free(t->storage);
    }
    free(t);
}

cld_tensor *cld_tensor_steal(cld_tensor **x) {
    cld_tensor *t = *x;
    *x = NULL;
    return t;
}

#endif
