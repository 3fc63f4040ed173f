/* Image functions on tensors, and the small kernels that only move bytes. */
#include "kernels/pixel.h"
#include "runtime/data/image.h"

#include <stdlib.h>
#include <string.h>

/* ---- scratch ------------------------------------------------------------------------------------------- */

uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes) {
    if (bytes <= s->bytes) return s->data;
    uint8_t *data = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!data)
        return cld_fail_null(CLD_NOMEM, "out of memory: an image needs %.1f MiB to work in",
                             (double)bytes / 0x1p20);
    free(s->data);
    s->data = data;
    s->bytes = bytes;
    return data;
}

void cld_scratch_free(cld_scratch *s) {
    free(s->data);
    *s = (cld_scratch){0};
}

/* ---- moving bytes -------------------------------------------------------------------------------------- */

void cld_image_from_interleaved(cld_planes out, const uint8_t *interleaved) {
    size_t n = (size_t)out.height * (size_t)out.width;
    uint8_t *r = out.data, *g = r + n, *b = g + n;
    for (size_t i = 0; i < n; i++) {
        r[i] = interleaved[3 * i];
        g[i] = interleaved[3 * i + 1];
        b[i] = interleaved[3 * i + 2];
    }
}

void cld_image_to_interleaved(uint8_t *interleaved, cld_planes image) {
    size_t n = (size_t)image.height * (size_t)image.width;
    const uint8_t *r = image.data, *g = r + n, *b = g + n;
    for (size_t i = 0; i < n; i++) {
        interleaved[3 * i] = r[i];
        interleaved[3 * i + 1] = g[i];
        interleaved[3 * i + 2] = b[i];
    }
}

void cld_image_hflip(cld_planes image) {
    for (int row = 0; row < 3 * image.height; row++) {
        uint8_t *left = image.data + (size_t)row * (size_t)image.width, *right = left + image.width;
        while (left < --right) {
            uint8_t swap = *left;
            *left++ = *right;
            *right = swap;
        }
    }
}

CLD_IMAGE_SIMD void cld_image_normalize(float *out, cld_planes image, const cld_normalization *n,
                                        bool mirror) {
    size_t width = (size_t)image.width, rows = (size_t)image.height;
    for (size_t row = 0; row < 3 * rows; row++) {
        float mean = n->mean[row / rows], std = n->std[row / rows];
        const uint8_t *restrict from = image.data + row * width;
        float *restrict to = out + row * width;
        if (mirror)
            for (size_t x = 0; x < width; x++) to[x] = cld_pixel_normalize(from[width - 1 - x], mean, std);
        else
            for (size_t x = 0; x < width; x++) to[x] = cld_pixel_normalize(from[x], mean, std);
    }
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *value;
    double low, high;
} ops[] = {
    [CLD_IMAGE_BRIGHTNESS] = {"adjust_brightness", "factor", 0, 1e6},
    [CLD_IMAGE_CONTRAST] = {"adjust_contrast", "factor", 0, 1e6},
    [CLD_IMAGE_SATURATION] = {"adjust_saturation", "factor", 0, 1e6},
    [CLD_IMAGE_HUE] = {"adjust_hue", "factor", -0.5, 0.5},
    [CLD_IMAGE_GRAYSCALE] = {"grayscale", "", 0, 0},
    [CLD_IMAGE_HFLIP] = {"hflip", "", 0, 0},
    [CLD_IMAGE_BLUR] = {"gaussian_blur", "sigma", 0, 1000},
};

static cld_status check_image(const char *name, const cld_tensor *image) {
    const cld_array *a = &image->a;
    if (a->dtype != CLD_U8 || a->ndim != 3 || a->shape[2] != 3 || a->shape[0] < 1 || a->shape[1] < 1 ||
        a->shape[0] > 65535 || a->shape[1] > 65535)
        return cld_fail(CLD_INVALID, "%s: expected an image u8[height, width, 3], got %s", name,
                        cld_describe(a));
    return CLD_OK;
}

static cld_planes planes_of(uint8_t *data, const cld_tensor *image) {
    return (cld_planes){data, (int)image->a.shape[0], (int)image->a.shape[1]};
}

cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value) {
    CLD_TRY_NULL(check_image(ops[op].name, image));
    if (!(value >= ops[op].low && value <= ops[op].high))
        return cld_fail_null(CLD_INVALID, "%s: %s must be %g to %g, got %g", ops[op].name, ops[op].value,
                             ops[op].low, ops[op].high, value);
    CLD_AUTO cld_tensor *x = cld_tensor_cast(image, CLD_U8);
    if (!x) return NULL;
    cld_scratch planar = {0}, work = {0};
    uint8_t *data = cld_scratch_reserve(&planar, (size_t)cld_numel(&x->a));
    if (!data) return NULL;
    cld_planes p = planes_of(data, x);
    cld_image_from_interleaved(p, x->a.data);
    cld_status status = CLD_OK;
    switch (op) {
    case CLD_IMAGE_BRIGHTNESS: cld_image_brightness(p, (float)value); break;
    case CLD_IMAGE_CONTRAST: cld_image_contrast(p, (float)value); break;
    case CLD_IMAGE_SATURATION: cld_image_saturation(p, (float)value); break;
    case CLD_IMAGE_HUE: cld_image_hue(p, value); break;
    case CLD_IMAGE_GRAYSCALE: cld_image_grayscale(p); break;
    case CLD_IMAGE_HFLIP: cld_image_hflip(p); break;
    case CLD_IMAGE_BLUR: status = cld_image_gaussian_blur(p, value, &work); break;
    }
    cld_image_to_interleaved(x->a.data, p);
    cld_scratch_free(&planar);
    cld_scratch_free(&work);
    return status == CLD_OK ? cld_tensor_steal(&x) : NULL;
}

cld_tensor *cld_image_resized_crop_tensor(const cld_tensor *image, cld_rect crop, int out_height,
                                          int out_width) {
    CLD_TRY_NULL(check_image("resized_crop", image));
    int64_t height = image->a.shape[0], width = image->a.shape[1];
    if (crop.top < 0 || crop.left < 0 || crop.height < 1 || crop.width < 1 ||
        (int64_t)crop.top + crop.height > height || (int64_t)crop.left + crop.width > width)
        return cld_fail_null(CLD_INVALID,
                             "resized_crop: top %d, left %d, height %d, width %d is not inside %s", crop.top,
                             crop.left, crop.height, crop.width, cld_describe(&image->a));
    if (out_height < 1 || out_width < 1 || out_height > 65535 || out_width > 65535)
        return cld_fail_null(CLD_INVALID, "resized_crop: size must be 1 to 65535, got %d x %d", out_height,
                             out_width);
    CLD_AUTO cld_tensor *x = cld_tensor_contiguous((cld_tensor *)image);
    int64_t shape[] = {out_height, out_width, 3};
    CLD_AUTO cld_tensor *out = x ? cld_tensor_new(CLD_U8, 3, shape, cld_device(x)) : NULL;
    if (!out) return NULL;
    cld_scratch planar = {0}, work = {0};
    uint8_t *data = cld_scratch_reserve(&planar, (size_t)cld_numel(&out->a));
    if (!data) return NULL;
    cld_planes p = planes_of(data, out);
    cld_status status = cld_image_resized_crop(p, x->a.data, (int)width, crop, &work);
    if (status == CLD_OK) cld_image_to_interleaved(out->a.data, p);
    cld_scratch_free(&planar);
    cld_scratch_free(&work);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}

cld_tensor *cld_image_normalize_tensor(const cld_tensor *image, const cld_normalization *n) {
    CLD_TRY_NULL(check_image("normalize", image));
    CLD_AUTO cld_tensor *x = cld_tensor_contiguous((cld_tensor *)image);
    int64_t shape[] = {3, image->a.shape[0], image->a.shape[1]};
    CLD_AUTO cld_tensor *out = x ? cld_tensor_new(CLD_F32, 3, shape, cld_device(x)) : NULL;
    if (!out) return NULL;
    cld_scratch planar = {0};
    uint8_t *data = cld_scratch_reserve(&planar, (size_t)cld_numel(&x->a));
    if (!data) return NULL;
    cld_planes p = planes_of(data, x);
    cld_image_from_interleaved(p, x->a.data);
    cld_image_normalize(out->a.data, p, n, false);
    cld_scratch_free(&planar);
    return cld_tensor_steal(&out);
}
