/* libFuzzer's target for PyTorch's files: `make fuzz`. Zip archives and legacy files are whole inputs; of zip archives no
 * checksum is looked at in this build (zip.c).
 *
 * The tensors are this file's own: each one that is made is counted against the file's bytes, and each view must lie in
 * its storage. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/io/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t made, most; /* bytes of tensors */

static void require(int holds) {
    if (!holds) abort();
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

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
    s->data = malloc(s->bytes ? s->bytes : 1); /* exactly: a byte beyond is found */
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

/* ---- the walk ------------------------------------------------------------------------------------------ */

static unsigned total; /* of what was read */

static void read_string(cld_pickle *p, const cld_pickle_value *v) {
    uint64_t size = 0;
    char text[300];
    total += (unsigned)cld_pickle_text(p, v, text, sizeof text);
    if (cld_pickle_measure(p, v, &size) != CLD_OK) return;
    require(size <= 4 * v->string.raw);
    cld_pickle_stream *s = cld_pickle_stream_open(p, v);
    char *bytes = malloc(size ? size : 1);
    require(s && bytes);
    require(cld_pickle_stream_next(s, bytes, size) == CLD_OK);
    cld_pickle_stream_free(s);
    free(bytes);
}

static void read_value(cld_torch_file *f, uint32_t i) {
    cld_pickle *p = cld_torch_pickle(f);
    const cld_pickle_value *v = cld_pickle_at(p, i);
    uint32_t count = cld_pickle_count(p), within = i, item;
    cld_tensor *t = NULL;
    char name[512];
    if (cld_torch_read(f, &within, &t) != CLD_OK) require(t == NULL);
    require(within < count);
    cld_tensor_free(t);
    if (cld_pickle_is_string(v)) read_string(p, v);
    if (v->kind == CLD_PICKLE_NAME || v->kind == CLD_PICKLE_OBJECT)
        cld_pickle_full_name(p, v, name, sizeof name);
    if (v->kind == CLD_PICKLE_OBJECT)
        require(v->object.arguments < count && v->object.state < count && v->object.items < count &&
                v->object.entries < count);
    if (v->kind < CLD_PICKLE_LIST || v->kind > CLD_PICKLE_DICT) return;
    require(v->kind != CLD_PICKLE_DICT || v->items.count % 2 == 0);
    for (cld_pickle_cursor c = cld_pickle_items(v); cld_pickle_next(p, &c, &item);) require(item < count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1;
    static char path[64];
    if (file < 0) file = memfd_create("torch", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    made = 0;
    most = 8 * (16 * size + (1 << 20)); /* an i8 becomes an i32 */
    bool is_torch;
    if (cld_torch_recognise(path, &is_torch) != CLD_OK || !is_torch) return 0;
    cld_torch_file *f = cld_torch_open(path);
    if (!f) return 0;
    for (uint32_t i = 0; i < cld_pickle_count(cld_torch_pickle(f)); i++) read_value(f, i);
    cld_torch_close(f);
    return 0;
}
