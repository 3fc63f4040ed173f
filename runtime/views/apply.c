/* A program's views of one image, drawn and made at once: to see what the program does. The views for training come
 * from the loader. */
#include "runtime/views/apply.h"

#include <stdlib.h>

static cld_status follow(cld_tensor *out, const cld_view *views, size_t stride, const cld_tensor *image) {
    cld_pixels pixels = cld_pixels_whole(image->a.data, (int)image->a.shape[0], (int)image->a.shape[1]);
    const cld_image_ops *ops = cld_cpu_backend()->image;
    if (!ops || !ops->view) return cld_fail(CLD_UNSUPPORTED, "views: the cpu has no kernels for images");
    size_t numbers = 3 * (size_t)out->a.shape[2] * (size_t)out->a.shape[3];
    cld_scratch scratch = {0};
    cld_status status = CLD_OK;
    for (int64_t i = 0; i < out->a.shape[0] && status == CLD_OK; i++) {
        const cld_view *v = (const cld_view *)(const void *)((const char *)views + (size_t)i * stride);
        status = ops->view((float *)out->a.data + (size_t)i * numbers, v, &pixels, &scratch);
    }
    cld_scratch_free(&scratch);
    return status;
}

cld_tensor *cld_program_views(const cld_program *p, cld_tensor *image, const cld_view_key *key) {
    const cld_array *a = &image->a;
    if (a->dtype != CLD_U8 || a->ndim != 3 || a->shape[2] != 3 || a->shape[0] < 1 || a->shape[1] < 1 ||
        a->shape[0] > CLD_CANVAS_PIXELS / a->shape[1])
        return cld_fail_null(CLD_INVALID, "views: expected an image u8[height, width, 3], got %s",
                             cld_describe(a));
    CLD_AUTO cld_tensor *host = cld_tensor_on_host(image);
    CLD_AUTO cld_tensor *x = host ? cld_tensor_contiguous(host) : NULL;
    if (!x) return NULL;
    int height = (int)x->a.shape[0], width = (int)x->a.shape[1], view_height, view_width;
    CLD_TRY_NULL(cld_program_size(p, height, width, &view_height, &view_width));
    int64_t shape[] = {p->images, 3, view_height, view_width};
    CLD_AUTO cld_tensor *out = cld_tensor_new(CLD_F32, 4, shape, cld_cpu_backend());
    size_t stride = cld_view_bytes(p->instructions);
    cld_view *views = out ? malloc(stride * (size_t)p->images) : NULL;
    if (!out) return NULL;
    if (!views) return cld_fail_null(CLD_NOMEM, "views: out of memory");
    cld_status status = cld_program_draw(p, views, stride, height, width, key);
    if (status == CLD_OK) status = follow(out, views, stride, x);
    free(views);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}
