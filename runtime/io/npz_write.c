/* Writing .npz files: one .npy per array, in a zip archive (zip_write.h), as numpy.savez does. */
#include <stdlib.h>
#include <string.h>

#include "runtime/io/npy.h"
#include "runtime/io/npz.h"
#include "runtime/io/zip_write.h"

static cld_status take(void *zip, const void *data, size_t bytes) { return cld_zip_add(zip, data, bytes); }

static cld_status put_array(cld_zip_writer *z, const cld_npz_array *a, const char *name) {
    char head[CLD_NPY_HEAD];
    cld_number_type type;
    size_t length = cld_npy_head(head, a->tensor, &type);
    if (!length) return cld_fail_in("tensor '%.100s'", a->name);
    CLD_TRY(cld_zip_begin(z, name, length + (uint64_t)cld_numel(&a->tensor->a) * type.bytes));
    CLD_TRY(cld_zip_add(z, head, length));
    if (cld_give_numbers(take, z, a->tensor, type) != CLD_OK) return cld_fail_in("tensor '%.100s'", a->name);
    return cld_zip_end(z);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const cld_npz_array *)a)->name, ((const cld_npz_array *)b)->name);
}

static cld_status put_named(cld_zip_writer *z, const cld_npz_array *a) {
    size_t length = strlen(a->name);
    char *name = malloc(length + sizeof ".npy");
    if (!name) return cld_fail(CLD_NOMEM, "out of memory for a tensor's name");
    memcpy(name, a->name, length);
    memcpy(name + length, ".npy", sizeof ".npy");
    cld_status status = put_array(z, a, name);
    free(name);
    return status;
}

cld_status cld_npz_save(const char *path, cld_npz_array *arrays, size_t count) {
    cld_zip_writer *z = cld_zip_create(path);
    if (!z) return cld_error_code();
    if (count) qsort(arrays, count, sizeof *arrays, by_name);
    for (size_t i = 0; i < count; i++) {
        if (put_named(z, &arrays[i]) != CLD_OK) {
            if (cld_zip_status(z) == CLD_OK) cld_zip_spoil(z, cld_fail_in("cannot write '%s'", path));
            break;
        }
    }
    return cld_zip_commit(z);
}
