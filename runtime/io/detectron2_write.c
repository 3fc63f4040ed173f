/* Writing detectron2's model files. The contract is in torch_write.h.
 *
 * An array is numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b") with the state (1, shape, dtype, False, bytes), as
 * NumPy pickles it; the elements go from the tensor straight into the file. */
#include <string.h>

#include "runtime/io/pickle_write.h"
#include "runtime/io/torch_write.h"

static const char *const codes[CLD_DTYPE_COUNT] = {
    [CLD_F32] = "f4", [CLD_F64] = "f8", [CLD_F16] = "f2", [CLD_I64] = "i8", [CLD_I32] = "i4", [CLD_U8] = "u1",
};

typedef struct array_pickle {
    cld_pickle_writer p;
    cld_writer *file;
    uint32_t reconstruct, ndarray, dtype; /* their memo numbers, once there is an array */
    bool any;
} array_pickle;

/* Writes what has been put so far to the file. */
static void flush(array_pickle *a) {
    if (a->p.failed && a->file->status == CLD_OK)
        a->file->status = cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", a->file->path);
    cld_writer_put(a->file, a->p.bytes, a->p.size);
    a->p.size = 0;
}

/* numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b") */
static void put_reconstruct(array_pickle *a) {
    if (a->any)
        cld_pickle_again(&a->p, a->reconstruct);
    else
        a->reconstruct = cld_pickle_put_global(&a->p, "numpy.core.multiarray", "_reconstruct");
    if (a->any)
        cld_pickle_again(&a->p, a->ndarray);
    else
        a->ndarray = cld_pickle_put_global(&a->p, "numpy", "ndarray");
    cld_pickle_put(&a->p,
                   "K\0\x85"
                   "C\1b"
                   "\x87R",
                   8);
}

/* numpy.dtype("f4", False, True) with the state (3, "<", None, None, None, -1, -1, 0) */
static void put_dtype(array_pickle *a, cld_dtype dtype) {
    if (a->any)
        cld_pickle_again(&a->p, a->dtype);
    else
        a->dtype = cld_pickle_put_global(&a->p, "numpy", "dtype");
    cld_pickle_put_text(&a->p, codes[dtype]);
    cld_pickle_put(&a->p, "\x89\x88\x87R(K\3", 7);
    cld_pickle_put_text(&a->p, cld_dtype_size(dtype) == 1 ? "|" : "<");
    cld_pickle_put(&a->p, "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb", 17);
}

static void put_array(array_pickle *a, cld_tensor *t) {
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(t);
    if (!dense) {
        if (a->file->status == CLD_OK) a->file->status = cld_error_code();
        return;
    }
    uint64_t bytes = (uint64_t)cld_numel(&dense->a) * cld_dtype_size(dense->a.dtype);
    put_reconstruct(a);
    cld_pickle_put(&a->p, "(K\1", 3);
    cld_pickle_put_tuple(&a->p, dense->a.ndim, dense->a.shape);
    put_dtype(a, dense->a.dtype);
    cld_pickle_put(&a->p, "\x89", 1);
    cld_pickle_put_bytes_header(&a->p, bytes);
    flush(a);
    cld_writer_put(a->file, dense->a.data, (size_t)bytes);
    cld_pickle_put(&a->p, "tb", 2);
    a->any = true;
}

static void put_file(array_pickle *a, const cld_named_tensor *tensors, size_t count, const char *author) {
    cld_pickle_put(&a->p, "\x80\3}(", 4);
    cld_pickle_put_text(&a->p, "model");
    cld_pickle_put(&a->p, "}", 1);
    for (size_t i = 0; i < count; i++) {
        cld_pickle_open_pair(&a->p, i, count);
        cld_pickle_put_text(&a->p, tensors[i].name);
        put_array(a, tensors[i].tensor);
        cld_pickle_close_pair(&a->p, i, count);
    }
    cld_pickle_put_text(&a->p, "__author__");
    cld_pickle_put_text(&a->p, author);
    cld_pickle_put_text(&a->p, "matching_heuristics");
    cld_pickle_put(&a->p, "\x88u.", 3);
    flush(a);
}

cld_status cld_detectron2_save(const char *path, const cld_named_tensor *tensors, size_t count,
                               const char *author) {
    for (size_t i = 0; i < count; i++)
        if (!codes[tensors[i].tensor->a.dtype])
            return cld_fail(CLD_INVALID, "cannot write '%s': NumPy has no %s, which is the dtype of '%s'",
                            path, cld_dtype_name(tensors[i].tensor->a.dtype), tensors[i].name);
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    array_pickle a = {.file = &w};
    put_file(&a, tensors, count, author);
    cld_pickle_write_free(&a.p);
    return cld_writer_commit(&w);
}
