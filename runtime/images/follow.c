/* Following views on tensors: one image on the CPU, or many on their device in one launch. */
#include "runtime/images/follow.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/resample.h"
#include "runtime/core/scratch.h"

cld_status cld__image_check(const char *name, const cld_tensor *image) {
    const cld_array *a = &image->a;
    if (a->dtype != CLD_U8 || a->ndim != 3 || a->shape[2] != 3 || a->shape[0] < 1 || a->shape[1] < 1 ||
        a->shape[0] > CLD_IMAGE_SIDE || a->shape[1] > CLD_IMAGE_SIDE)
        return cld_fail(CLD_INVALID, "%s: expected an image u8[height, width, 3], got %s", name,
                        cld_describe(a));
    return CLD_OK;
}

/* ---- one image ----------------------------------------------------------------------------------------- */

static bool is_normalized(const cld_view *v) {
    return v->count > 0 &&
           (v->step[v->count - 1].op == CLD_VIEW_NORMALIZE || v->step[v->count - 1].op == CLD_VIEW_ERASE);
}

/* Copies exactly the pixels that the view needs, as if a decoder had decoded only this part. */
static cld_status spare(cld_pixels *pixels, const cld_view *v, uint8_t **owned) {
    cld_rect r = cld_view_needs(v, pixels->full_height, pixels->full_width, pixels->shrink);
    size_t row = 3 * (size_t)r.width;
    uint8_t *copy = malloc(row * (size_t)r.height); /* not a byte more, to catch reads beyond it */
    if (!copy) return cld_fail(CLD_NOMEM, "follow: out of memory");
    for (size_t y = 0; y < (size_t)r.height; y++)
        memcpy(copy + y * row, pixels->data + ((size_t)r.top + y) * pixels->stride + 3 * (size_t)r.left, row);
    *owned = copy;
    pixels->data = copy;
    pixels->stride = row;
    pixels->there = r;
    return CLD_OK;
}

cld_tensor *cld_image_follow(const cld_tensor *image, const cld_view *v, const cld_image_given *given) {
    CLD_TRY_NULL(cld__image_check("follow", image));
    const cld_backend *cpu = cld_cpu_backend();
    CLD_AUTO cld_tensor *x = cld_tensor_on_host((cld_tensor *)image);
    bool floats = is_normalized(v);
    int64_t interleaved[] = {v->height, v->width, 3}, planes[] = {3, v->height, v->width};
    CLD_AUTO cld_tensor *out =
        x ? cld_tensor_new(floats ? CLD_F32 : CLD_U8, 3, floats ? planes : interleaved, cpu) : NULL;
    if (!out) return NULL;
    cld_pixels pixels = cld_pixels_whole(x->a.data, (int)x->a.shape[0], (int)x->a.shape[1]);
    if (given->shrink > 1) {
        pixels.shrink = given->shrink;
        pixels.full_height *= given->shrink;
        pixels.full_width *= given->shrink;
    }
    cld_scratch scratch = {0};
    uint8_t *copy = NULL;
    cld_status status = given->sparing ? spare(&pixels, v, &copy) : CLD_OK;
    if (status == CLD_OK)
        status = floats ? cpu->image->view(out->a.data, v, &pixels, &scratch)
                        : cpu->image->canvas(out->a.data, v, &pixels, &scratch);
    cld_scratch_free(&scratch);
    free(copy);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}

/* ---- many ---------------------------------------------------------------------------------------------- */

static const cld_view *view_at(const cld_view *views, size_t stride, int64_t i) {
    return (const cld_view *)((const char *)views + (size_t)i * stride);
}

/* One after the other, on the CPU. */
static cld_status follow_each(cld_tensor *out, const cld_tensor *images, const cld_tensor *rows,
                              const cld_view *views, size_t stride, int64_t n) {
    const int64_t *shape = images->a.shape;
    size_t image_bytes = 3 * (size_t)shape[1] * (size_t)shape[2];
    size_t view_size = n ? (size_t)(cld_numel(&out->a) / n) : 0;
    cld_scratch scratch = {0};
    cld_status status = CLD_OK;
    for (int64_t i = 0; i < n && status == CLD_OK; i++) {
        int64_t row = rows ? ((const int64_t *)rows->a.data)[i] : i;
        if (row < 0 || row >= shape[0]) {
            status = cld_fail(CLD_INVALID, "follow_all: there is no row %lld in %lld images", (long long)row,
                              (long long)shape[0]);
            break;
        }
        const uint8_t *image = (const uint8_t *)images->a.data + (size_t)row * image_bytes;
        cld_pixels pixels = cld_pixels_whole(image, (int)shape[1], (int)shape[2]);
        status = cld_cpu_backend()->image->view((float *)out->a.data + (size_t)i * view_size,
                                                view_at(views, stride, i), &pixels, &scratch);
    }
    cld_scratch_free(&scratch);
    return status;
}

/* All in one launch, on the images' device. */
static cld_status follow_there(cld_tensor *out, const cld_tensor *images, const cld_tensor *rows,
                               const cld_view *views, size_t stride, int64_t n) {
    const cld_backend *cpu = cld_cpu_backend();
    int64_t shape[] = {n, (int64_t)stride};
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_U8, 2, shape, cpu);
    if (!host) return cld_error_code();
    memcpy(host->a.data, views, (size_t)n * stride);
    CLD_AUTO cld_tensor *drawn = cld_tensor_to(host, cld_device(images));
    if (!drawn) return cld_error_code();
    cld_view_batch batch = {.stride = stride};
    for (int64_t i = 0; i < n; i++)
        cld_view_batch_add(&batch, view_at(views, stride, i), (int)images->a.shape[1],
                           (int)images->a.shape[2]);
    return cld_kernel(cld_device(images), image, views, &out->a, &images->a, rows ? &rows->a : NULL,
                      &drawn->a, &batch);
}

cld_tensor *cld_image_follow_all(cld_tensor *images, cld_tensor *rows, const cld_view *views, size_t stride,
                                 int64_t n, cld_dtype dtype) {
    const cld_array *a = &images->a;
    if (a->dtype != CLD_U8 || a->ndim != 4 || a->shape[3] != 3 || !cld_is_contiguous(a) || a->shape[1] < 1 ||
        a->shape[2] < 1 || a->shape[1] > CLD_IMAGE_SIDE || a->shape[2] > CLD_IMAGE_SIDE)
        return cld_fail_null(CLD_INVALID,
                             "follow_all: images must be u8[n, height, width, 3], contiguous; got %s",
                             cld_describe(a));
    if (rows && (rows->a.dtype != CLD_I64 || rows->a.ndim != 1 || rows->a.shape[0] != n ||
                 !cld_is_contiguous(&rows->a) || cld_device(rows) != cld_device(images)))
        return cld_fail_null(CLD_INVALID, "follow_all: rows must be i64[%lld] on the images' device; got %s",
                             (long long)n, cld_describe(&rows->a));
    if (!rows && n > a->shape[0])
        return cld_fail_null(CLD_INVALID, "follow_all: %lld views, but only %lld images", (long long)n,
                             (long long)a->shape[0]);
    for (int64_t i = 0; i < n; i++) {
        const cld_view *v = view_at(views, stride, i);
        if (v->height != views->height || v->width != views->width || !is_normalized(v))
            return cld_fail_null(CLD_INVALID,
                                 "follow_all: every view must be normalized and of the first one's size");
    }
    bool here = cld_device(images) == cld_cpu_backend();
    int64_t shape[] = {n, 3, n ? views->height : 0, n ? views->width : 0};
    CLD_AUTO cld_tensor *out = here ? cld_tensor_new(CLD_F32, 4, shape, cld_cpu_backend())
                                    : cld_tensor_new_activation(dtype, shape, cld_device(images));
    if (!out) return NULL;
    CLD_TRY_NULL((here ? follow_each : follow_there)(out, images, rows, views, stride, n));
    return here ? cld_tensor_as(out, dtype, cld_cpu_backend()) : cld_tensor_steal(&out);
}
