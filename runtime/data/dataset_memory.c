/* A data set of images in memory: CIFAR, STL-10, a user's tensor. */
#include "runtime/data/dataset.h"

#include <stdio.h>
#include <stdlib.h>

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    s->height = d->height;
    s->width = d->width;
    s->pixels = (const uint8_t *)d->tensor->a.data + (size_t)row * 3 * (size_t)d->height * (size_t)d->width;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    (void)d;
    snprintf(text, size, "images[%lld]", (long long)row + 1);
}

static void free_set(cld_dataset *d) {
    cld_tensor_free(d->tensor);
    free(d);
}

static const cld_dataset_ops ops = {"memory", open_row, describe, free_set};

cld_dataset *cld_dataset_of_tensor(cld_tensor *images) {
    const cld_array *a = &images->a;
    if (a->dtype != CLD_U8 || a->ndim != 4 || a->shape[3] != 3 || !cld_is_contiguous(a) ||
        cld_device(images) != cld_cpu_backend())
        return cld_fail_null(
            CLD_INVALID,
            "data set: images must be u8[n, height, width, 3], contiguous and on the cpu; got "
            "%s on %s",
            cld_describe(a), cld_device(images)->name);
    if (a->shape[0] < 1)
        return cld_fail_null(CLD_INVALID, "data set: there are no images in %s", cld_describe(a));
    if (a->shape[1] < 1 || a->shape[2] < 1 || a->shape[1] > 65535 || a->shape[2] > 65535)
        return cld_fail_null(CLD_INVALID, "data set: images must be 1 to 65535 pixels wide and high; got %s",
                             cld_describe(a));
    cld_dataset *d = malloc(sizeof *d);
    if (!d) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    *d = (cld_dataset){
        .ops = &ops,
        .count = a->shape[0],
        .height = (int)a->shape[1],
        .width = (int)a->shape[2],
        .tensor = cld_tensor_retain(images),
        .references = 1,
    };
    return d;
}
