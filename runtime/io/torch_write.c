/* Writing PyTorch's zip format. The contract is in torch_write.h. */
#include "runtime/io/torch_write.h"

#include <stdio.h>

#include "runtime/io/pickle_write.h"
#include "runtime/io/zip_write.h"

static const char *const storages[CLD_DTYPE_COUNT] = {
    [CLD_F32] = "FloatStorage",     [CLD_F64] = "DoubleStorage", [CLD_F16] = "HalfStorage",
    [CLD_BF16] = "BFloat16Storage", [CLD_I64] = "LongStorage",   [CLD_I32] = "IntStorage",
    [CLD_U8] = "ByteStorage",
};

/* The memo number of a name that occurs more than once, and whether it has been put yet. */
typedef struct kept {
    uint32_t number;
    bool there;
} kept;

typedef struct state_pickle {
    cld_pickle_writer p;
    uint32_t ordered_dict;
    kept rebuild, storage, cpu, types[CLD_DTYPE_COUNT];
} state_pickle;

static void put_name(cld_pickle_writer *p, kept *k, const char *module, const char *name) {
    if (k->there) {
        cld_pickle_again(p, k->number);
        return;
    }
    *k = (kept){module ? cld_pickle_put_global(p, module, name) : cld_pickle_put_text(p, name), true};
}

/* ("storage", torch.FloatStorage, "0", "cpu", elements), as the persistent id of a storage elsewhere in the archive. */
static void put_storage(state_pickle *s, cld_dtype dtype, size_t key, int64_t elements) {
    char text[24];
    cld_pickle_put(&s->p, "(", 1);
    put_name(&s->p, &s->storage, NULL, "storage");
    put_name(&s->p, &s->types[dtype], "torch", storages[dtype]);
    snprintf(text, sizeof text, "%zu", key);
    cld_pickle_put_text(&s->p, text);
    put_name(&s->p, &s->cpu, NULL, "cpu");
    cld_pickle_put_integer(&s->p, elements);
    cld_pickle_put(&s->p, "t", 1);
    cld_pickle_keep(&s->p);
    cld_pickle_put(&s->p, "Q", 1);
}

/* The strides of a dense tensor with this shape, as PyTorch computes them: a dimension of 0 counts as 1. */
static void dense_strides(const cld_array *a, int64_t *strides) {
    int64_t step = 1;
    for (int i = a->ndim - 1; i >= 0; i--) {
        strides[i] = step;
        step *= a->shape[i] ? a->shape[i] : 1;
    }
}

/* torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()) */
static void put_tensor(state_pickle *s, const cld_array *a, size_t key) {
    int64_t strides[CLD_MAX_DIMS];
    dense_strides(a, strides);
    put_name(&s->p, &s->rebuild, "torch._utils", "_rebuild_tensor_v2");
    cld_pickle_put(&s->p, "(", 1);
    put_storage(s, a->dtype, key, cld_numel(a));
    cld_pickle_put_integer(&s->p, 0);
    cld_pickle_put_tuple(&s->p, a->ndim, a->shape);
    cld_pickle_put_tuple(&s->p, a->ndim, strides);
    cld_pickle_put(&s->p, "\x89", 1);
    cld_pickle_again(&s->p, s->ordered_dict);
    cld_pickle_put(&s->p, ")R", 2);
    cld_pickle_keep(&s->p);
    cld_pickle_put(&s->p, "t", 1);
    cld_pickle_keep(&s->p);
    cld_pickle_put(&s->p, "R", 1);
    cld_pickle_keep(&s->p);
}

static void put_state(state_pickle *s, const cld_named_tensor *tensors, size_t count) {
    cld_pickle_put(&s->p, "\x80\2", 2);
    s->ordered_dict = cld_pickle_put_global(&s->p, "collections", "OrderedDict");
    cld_pickle_put(&s->p, ")R", 2);
    cld_pickle_keep(&s->p);
    for (size_t i = 0; i < count; i++) {
        cld_pickle_open_pair(&s->p, i, count);
        cld_pickle_put_text(&s->p, tensors[i].name);
        put_tensor(s, &tensors[i].tensor->a, i);
        cld_pickle_close_pair(&s->p, i, count);
    }
    cld_pickle_put(&s->p, ".", 1);
}

static void put_elements(cld_zip_writer *z, cld_tensor *t, size_t key) {
    char name[48];
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(t);
    if (!dense) {
        cld_zip_spoil(z, cld_error_code());
        return;
    }
    snprintf(name, sizeof name, "archive/data/%zu", key);
    cld_zip_put(z, name, dense->a.data, (size_t)cld_numel(&dense->a) * cld_dtype_size(dense->a.dtype));
}

cld_status cld_torch_save(const char *path, const cld_named_tensor *tensors, size_t count) {
    cld_zip_writer *z = cld_zip_create(path);
    if (!z) return cld_error_code();
    state_pickle s = {0};
    put_state(&s, tensors, count);
    if (s.p.failed) cld_zip_spoil(z, cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", path));
    cld_zip_put(z, "archive/data.pkl", s.p.bytes, s.p.size);
    cld_pickle_write_free(&s.p);
    cld_zip_put(z, "archive/byteorder", "little", 6);
    for (size_t i = 0; i < count; i++) put_elements(z, tensors[i].tensor, i);
    cld_zip_put(z, "archive/version", "3\n", 2);
    return cld_zip_commit(z);
}
