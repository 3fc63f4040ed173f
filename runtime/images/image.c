/* Image functions on tensors, and views written as numbers, checked. */
#include "runtime/images/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/pixel.h"
#include "kernels/resample.h"
#include "runtime/core/scratch.h"
#include "runtime/core/text.h"

#define MOST 65535 /* pixels, of a side */

/* A view with room for its instructions. */
typedef struct written {
    cld_view view;
    cld_view_instruction step[CLD_IMAGE_STEPS];
} written;

/* ---- instructions from numbers ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int numbers;
} forms[CLD_VIEW_OP_COUNT] = {
    [CLD_VIEW_RESAMPLE] = {"resample", 12},
    [CLD_VIEW_WINDOW] = {"window", 7},
    [CLD_VIEW_FLIP] = {"flip", 0},
    [CLD_VIEW_BRIGHTNESS] = {"brightness", 1},
    [CLD_VIEW_CONTRAST] = {"contrast", 1},
    [CLD_VIEW_SATURATION] = {"saturation", 1},
    [CLD_VIEW_HUE] = {"hue", 1},
    [CLD_VIEW_GREY] = {"grey", 0},
    [CLD_VIEW_BOX_BLUR] = {"box_blur", 1},
    [CLD_VIEW_TAP_BLUR] = {"tap_blur", -1}, /* 1 to 12 */
    [CLD_VIEW_INVERT] = {"invert", 0},
    [CLD_VIEW_SOLARIZE] = {"solarize", 1},
    [CLD_VIEW_SOLARIZE_ADD] = {"solarize_add", 1},
    [CLD_VIEW_POSTERIZE] = {"posterize", 1},
    [CLD_VIEW_AUTOCONTRAST] = {"autocontrast", 0},
    [CLD_VIEW_EQUALIZE] = {"equalize", 0},
    [CLD_VIEW_SHARPNESS] = {"sharpness", 1},
    [CLD_VIEW_AFFINE] = {"affine", 10},
    [CLD_VIEW_NORMALIZE] = {"normalize", 7},
    [CLD_VIEW_ERASE] = {"erase", 7},
};

/* 0 where it is no integer that fits; the checks below want more. */
static int32_t integer(double x) { return fabs(x) < 0x1p30 ? (int32_t)x : 0; }

cld_status cld_image_instruction(cld_view_instruction *out, const char *name, const double *numbers,
                                 int count) {
    int op = 0;
    while (op < CLD_VIEW_OP_COUNT && strcmp(forms[op].name, name) != 0) op++;
    if (op == CLD_VIEW_OP_COUNT) {
        char shown[64];
        cld_printable(shown, sizeof shown, name, strlen(name), CLD_ONE_LINE);
        return cld_fail(CLD_INVALID, "follow: there is no instruction '%s'", shown);
    }
    bool fits = forms[op].numbers == count || (op == CLD_VIEW_TAP_BLUR && count >= 1 && count <= 12);
    if (!fits && op == CLD_VIEW_TAP_BLUR)
        return cld_fail(CLD_INVALID, "follow: tap_blur has 1 to 12 numbers, got %d", count);
    if (!fits)
        return cld_fail(CLD_INVALID, "follow: %s has %d numbers, got %d", name, forms[op].numbers, count);
    const double *n = numbers;
    *out = (cld_view_instruction){.op = op};
    switch ((cld_view_op)op) {
    case CLD_VIEW_RESAMPLE:
        out->resample.top = (float)n[0];
        out->resample.left = (float)n[1];
        out->resample.height = (float)n[2];
        out->resample.width = (float)n[3];
        out->resample.out_height = integer(n[4]);
        out->resample.out_width = integer(n[5]);
        for (int i = 0; i < 4; i++) out->resample.window[i] = integer(n[6 + i]);
        out->resample.filter = integer(n[10]);
        out->flip = n[11] != 0;
        break;
    case CLD_VIEW_WINDOW:
        out->window.top = integer(n[0]);
        out->window.left = integer(n[1]);
        out->window.height = integer(n[2]);
        out->window.width = integer(n[3]);
        for (int i = 0; i < 3; i++) out->window.fill[i] = integer(n[4 + i]);
        break;
    case CLD_VIEW_BRIGHTNESS:
    case CLD_VIEW_CONTRAST:
    case CLD_VIEW_SATURATION:
    case CLD_VIEW_SHARPNESS: out->factor = (float)n[0]; break;
    case CLD_VIEW_HUE: out->shift = integer(n[0]); break;
    case CLD_VIEW_BOX_BLUR: {
        if (!(n[0] >= 0 && n[0] <= 1000))
            return cld_fail(CLD_INVALID, "follow: box_blur: sigma must be 0 to 1000, got %g", n[0]);
        cld_box b = cld_pixel_box(n[0]);
        out->box.radius = b.radius;
        out->box.whole = b.whole;
        out->box.edge = b.edge;
        break;
    }
    case CLD_VIEW_TAP_BLUR:
        out->taps.radius = count - 1;
        for (int i = 0; i < count; i++) out->taps.weight[i] = (float)n[i];
        break;
    case CLD_VIEW_SOLARIZE:
    case CLD_VIEW_SOLARIZE_ADD:
    case CLD_VIEW_POSTERIZE: out->level = integer(n[0]); break;
    case CLD_VIEW_AFFINE:
        memcpy(out->affine.matrix, n, sizeof out->affine.matrix);
        for (int i = 0; i < 3; i++) out->affine.fill[i] = (uint8_t)integer(n[6 + i]);
        out->affine.filter = (uint8_t)integer(n[9]);
        break;
    case CLD_VIEW_NORMALIZE:
        for (int i = 0; i < 3; i++) {
            out->normalize.mean[i] = (float)n[i];
            out->normalize.std[i] = (float)n[3 + i];
        }
        out->flip = n[6] != 0;
        break;
    case CLD_VIEW_ERASE:
        out->erase.top = integer(n[0]);
        out->erase.left = integer(n[1]);
        out->erase.height = integer(n[2]);
        out->erase.width = integer(n[3]);
        for (int i = 0; i < 3; i++) out->erase.value[i] = (float)n[4 + i];
        break;
    default: break;
    }
    return CLD_OK;
}

/* ---- checks -------------------------------------------------------------------------------------------- */

static bool lies_in(int top, int left, int height, int width, int all_height, int all_width) {
    return top >= 0 && left >= 0 && height >= 1 && width >= 1 && top <= all_height - height &&
           left <= all_width - width;
}

static bool is_side(int pixels) { return pixels >= 1 && pixels <= MOST; }

static bool is_level(int level) { return level >= 0 && level <= 255; }

/* What is wrong with an instruction of a canvas of this size, or NULL. */
static const char *mistake_in(const cld_view_instruction *s, int height, int width) {
    switch ((cld_view_op)s->op) {
    case CLD_VIEW_RESAMPLE: {
        float top = s->resample.top, left = s->resample.left;
        const int32_t *w = s->resample.window;
        if (!(top >= 0 && left >= 0 && s->resample.height > 0 && s->resample.width > 0 &&
              top + s->resample.height <= (float)height && left + s->resample.width <= (float)width))
            return "the box must lie in the image or canvas";
        if (!is_side(s->resample.out_height) || !is_side(s->resample.out_width))
            return "the size must be 1 to 65535";
        if (!lies_in(w[0], w[1], w[2], w[3], s->resample.out_height, s->resample.out_width))
            return "the window must lie in what the box becomes";
        if (s->resample.filter != CLD_FILTER_BILINEAR && s->resample.filter != CLD_FILTER_BICUBIC)
            return "the filter must be 1 (bilinear) or 2 (bicubic)";
        return NULL;
    }
    case CLD_VIEW_WINDOW:
        for (int i = 0; i < 3; i++)
            if (!is_level(s->window.fill[i])) return "fill must be 0 to 255";
        if (abs(s->window.top) > MOST || abs(s->window.left) > MOST || !is_side(s->window.height) ||
            !is_side(s->window.width))
            return "the size must be 1 to 65535, the corner at most so far away";
        return NULL;
    case CLD_VIEW_BRIGHTNESS:
    case CLD_VIEW_CONTRAST:
    case CLD_VIEW_SATURATION:
    case CLD_VIEW_SHARPNESS:
        return s->factor >= 0 && s->factor <= 1e6f ? NULL : "the factor must be 0 to 1e6";
    case CLD_VIEW_HUE: return is_level(s->shift) ? NULL : "the shift must be 0 to 255";
    case CLD_VIEW_SOLARIZE: return s->level >= 0 && s->level <= 256 ? NULL : "the level must be 0 to 256";
    case CLD_VIEW_SOLARIZE_ADD: return is_level(s->level) ? NULL : "the level must be 0 to 255";
    case CLD_VIEW_POSTERIZE: return s->level >= 0 && s->level <= 8 ? NULL : "the bits must be 0 to 8";
    case CLD_VIEW_TAP_BLUR:
        for (int i = 0; i <= s->taps.radius; i++)
            if (!isfinite(s->taps.weight[i])) return "weights must be finite";
        return NULL;
    case CLD_VIEW_AFFINE:
        for (int i = 0; i < 6; i++)
            if (!isfinite(s->affine.matrix[i])) return "the matrix must be finite";
        if (s->affine.filter != CLD_FILTER_BILINEAR && s->affine.filter != CLD_FILTER_BICUBIC)
            return "the filter must be 1 (bilinear) or 2 (bicubic)";
        return NULL;
    case CLD_VIEW_NORMALIZE:
        for (int i = 0; i < 3; i++)
            if (!(s->normalize.std[i] > 0) || !isfinite(s->normalize.mean[i]))
                return "std must be positive, mean finite";
        return NULL;
    case CLD_VIEW_ERASE:
        if (!lies_in(s->erase.top, s->erase.left, s->erase.height, s->erase.width, height, width))
            return "the part must lie in the view";
        return NULL;
    default: return NULL;
    }
}

cld_status cld_image_finish_view(cld_view *v, int count, int height, int width) {
    int64_t pixels = 0;
    bool normalized = false;
    for (int i = 0; i < count; i++) {
        const cld_view_instruction *s = &v->step[i];
        const char *name = forms[s->op].name;
        if (normalized != (s->op == CLD_VIEW_ERASE))
            return cld_fail(CLD_INVALID,
                            normalized ? "follow: only erase may follow normalize, not %s"
                                       : "follow: %s needs normalize before it",
                            name);
        const char *mistake = mistake_in(s, height, width);
        if (mistake) return cld_fail(CLD_INVALID, "follow: %s: %s", name, mistake);
        normalized |= s->op == CLD_VIEW_NORMALIZE;
        if (i == 0 && s->op != CLD_VIEW_RESAMPLE) pixels = (int64_t)height * width;
        cld_view_resize(s, &height, &width);
        int64_t now = (int64_t)height * width;
        pixels = now > pixels ? now : pixels;
    }
    if (pixels > INT32_MAX)
        return cld_fail(CLD_INVALID, "follow: %d x %d pixels are too many", height, width);
    v->count = count;
    v->height = height;
    v->width = width;
    v->pixels = (int32_t)pixels;
    return CLD_OK;
}

static cld_status check_image(const char *name, const cld_tensor *image) {
    const cld_array *a = &image->a;
    if (a->dtype != CLD_U8 || a->ndim != 3 || a->shape[2] != 3 || a->shape[0] < 1 || a->shape[1] < 1 ||
        a->shape[0] > MOST || a->shape[1] > MOST)
        return cld_fail(CLD_INVALID, "%s: expected an image u8[height, width, 3], got %s", name,
                        cld_describe(a));
    return CLD_OK;
}

/* ---- following ----------------------------------------------------------------------------------------- */

static cld_pixels pixels_of(const uint8_t *data, int64_t height, int64_t width) {
    int h = (int)height, w = (int)width;
    return (cld_pixels){.data = data,
                        .stride = 3 * (size_t)width,
                        .height = h,
                        .width = w,
                        .there = {0, 0, h, w},
                        .shrink = 1,
                        .full_height = h,
                        .full_width = w};
}

static bool is_normalized(const cld_view *v) {
    return v->count > 0 &&
           (v->step[v->count - 1].op == CLD_VIEW_NORMALIZE || v->step[v->count - 1].op == CLD_VIEW_ERASE);
}

/* As a decoder gives an image in part: exactly the pixels that the view needs. */
static cld_status spare(cld_pixels *pixels, const cld_view *v, cld_scratch *scratch) {
    cld_rect r = cld_view_needs_shrunk(v, pixels->full_height, pixels->full_width, pixels->shrink);
    size_t row = 3 * (size_t)r.width;
    uint8_t *copy = malloc(row * (size_t)r.height); /* no byte more: a read beyond it shall be found */
    if (!copy) return cld_fail(CLD_NOMEM, "follow: out of memory");
    for (size_t y = 0; y < (size_t)r.height; y++)
        memcpy(copy + y * row, pixels->data + ((size_t)r.top + y) * pixels->stride + 3 * (size_t)r.left, row);
    *scratch = (cld_scratch){.data = copy, .bytes = row * (size_t)r.height};
    pixels->data = copy;
    pixels->stride = row;
    pixels->there = r;
    return CLD_OK;
}

cld_tensor *cld_image_follow(const cld_tensor *image, const cld_view *v, const cld_image_given *given) {
    CLD_TRY_NULL(check_image("follow", image));
    const cld_backend *cpu = cld_cpu_backend();
    CLD_AUTO cld_tensor *x = cld_tensor_on_host((cld_tensor *)image);
    bool floats = is_normalized(v);
    int64_t interleaved[] = {v->height, v->width, 3}, planes[] = {3, v->height, v->width};
    CLD_AUTO cld_tensor *out =
        x ? cld_tensor_new(floats ? CLD_F32 : CLD_U8, 3, floats ? planes : interleaved, cpu) : NULL;
    if (!out) return NULL;
    cld_pixels pixels = pixels_of(x->a.data, x->a.shape[0], x->a.shape[1]);
    if (given->shrink > 1) {
        pixels.shrink = given->shrink;
        pixels.full_height *= given->shrink;
        pixels.full_width *= given->shrink;
    }
    cld_scratch scratch = {0}, copy = {0};
    cld_status status = given->sparing ? spare(&pixels, v, &copy) : CLD_OK;
    if (status == CLD_OK)
        status = floats ? cpu->image->view(out->a.data, v, &pixels, &scratch)
                        : cpu->image->canvas(out->a.data, v, &pixels, &scratch);
    cld_scratch_free(&scratch);
    cld_scratch_free(&copy);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}

static const cld_view *view_at(const cld_view *views, size_t stride, int64_t i) {
    return (const cld_view *)((const char *)views + (size_t)i * stride);
}

/* One after the other, by the host. */
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
            status = cld_fail(CLD_INVALID, "follow_all: row %lld of %lld images", (long long)row,
                              (long long)shape[0]);
            break;
        }
        cld_pixels pixels =
            pixels_of((const uint8_t *)images->a.data + (size_t)row * image_bytes, shape[1], shape[2]);
        status = cld_cpu_backend()->image->view((float *)out->a.data + (size_t)i * view_size,
                                                view_at(views, stride, i), &pixels, &scratch);
    }
    cld_scratch_free(&scratch);
    return status;
}

/* All in one launch, by the images' device. */
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
        a->shape[2] < 1 || a->shape[1] > MOST || a->shape[2] > MOST)
        return cld_fail_null(CLD_INVALID,
                             "follow_all: images must be u8[n, height, width, 3], contiguous; got %s",
                             cld_describe(a));
    if (rows && (rows->a.dtype != CLD_I64 || rows->a.ndim != 1 || rows->a.shape[0] != n ||
                 !cld_is_contiguous(&rows->a) || cld_device(rows) != cld_device(images)))
        return cld_fail_null(CLD_INVALID, "follow_all: rows must be i64[%lld] where the images are; got %s",
                             (long long)n, cld_describe(&rows->a));
    if (!rows && n > a->shape[0])
        return cld_fail_null(CLD_INVALID, "follow_all: %lld views of %lld images", (long long)n,
                             (long long)a->shape[0]);
    for (int64_t i = 0; i < n; i++) {
        const cld_view *v = view_at(views, stride, i);
        if (v->height != views->height || v->width != views->width || !is_normalized(v))
            return cld_fail_null(CLD_INVALID,
                                 "follow_all: every view must be normalized, and as large as the first");
    }
    bool here = cld_device(images) == cld_cpu_backend();
    int64_t shape[] = {n, 3, n ? views->height : 0, n ? views->width : 0};
    CLD_AUTO cld_tensor *out = here ? cld_tensor_new(CLD_F32, 4, shape, cld_cpu_backend())
                                    : cld_tensor_new_activation(dtype, shape, cld_device(images));
    if (!out) return NULL;
    CLD_TRY_NULL((here ? follow_each : follow_there)(out, images, rows, views, stride, n));
    return here ? cld_tensor_as(out, dtype, cld_cpu_backend()) : cld_tensor_steal(&out);
}

/* ---- one function each --------------------------------------------------------------------------------- */

/* `name`: the public function's, in messages. */
static cld_tensor *follow_one(const char *name, const cld_tensor *image, const cld_view_instruction *s) {
    CLD_TRY_NULL(check_image(name, image));
    written w = {.step[0] = *s};
    CLD_TRY_NULL(cld_image_finish_view(&w.view, 1, (int)image->a.shape[0], (int)image->a.shape[1]));
    return cld_image_follow(image, &w.view, &(cld_image_given){0});
}

static const struct {
    const char *name, *value; /* value: NULL where there is none */
    double low, high;
    cld_view_op op;
} ops[] = {
    [CLD_IMAGE_BRIGHTNESS] = {"adjust_brightness", "factor", 0, 1e6, CLD_VIEW_BRIGHTNESS},
    [CLD_IMAGE_CONTRAST] = {"adjust_contrast", "factor", 0, 1e6, CLD_VIEW_CONTRAST},
    [CLD_IMAGE_SATURATION] = {"adjust_saturation", "factor", 0, 1e6, CLD_VIEW_SATURATION},
    [CLD_IMAGE_SHARPNESS] = {"adjust_sharpness", "factor", 0, 1e6, CLD_VIEW_SHARPNESS},
    [CLD_IMAGE_HUE] = {"adjust_hue", "factor", -0.5, 0.5, CLD_VIEW_HUE},
    [CLD_IMAGE_BLUR] = {"gaussian_blur", "sigma", 0, 1000, CLD_VIEW_BOX_BLUR},
    [CLD_IMAGE_SOLARIZE] = {"solarize", "threshold", 0, 256, CLD_VIEW_SOLARIZE},
    [CLD_IMAGE_POSTERIZE] = {"posterize", "bits", 0, 8, CLD_VIEW_POSTERIZE},
    [CLD_IMAGE_GRAYSCALE] = {"grayscale", NULL, 0, 0, CLD_VIEW_GREY},
    [CLD_IMAGE_HFLIP] = {"hflip", NULL, 0, 0, CLD_VIEW_FLIP},
    [CLD_IMAGE_INVERT] = {"invert", NULL, 0, 0, CLD_VIEW_INVERT},
    [CLD_IMAGE_AUTOCONTRAST] = {"autocontrast", NULL, 0, 0, CLD_VIEW_AUTOCONTRAST},
    [CLD_IMAGE_EQUALIZE] = {"equalize", NULL, 0, 0, CLD_VIEW_EQUALIZE},
};

cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value) {
    const char *name = ops[op].name;
    CLD_TRY_NULL(check_image(name, image));
    bool whole = op != CLD_IMAGE_SOLARIZE && op != CLD_IMAGE_POSTERIZE;
    if (ops[op].value && !(value >= ops[op].low && value <= ops[op].high))
        return cld_fail_null(CLD_INVALID, "%s: %s must be %g to %g, got %g", name, ops[op].value, ops[op].low,
                             ops[op].high, value);
    if (!whole && value != floor(value))
        return cld_fail_null(CLD_INVALID, "%s: %s must be an integer, got %g", name, ops[op].value, value);
    if (op == CLD_IMAGE_HUE) value = cld_pixel_hue_shift(value);
    cld_view_instruction s;
    CLD_TRY_NULL(cld_image_instruction(&s, forms[ops[op].op].name, &value, ops[op].value ? 1 : 0));
    return follow_one(name, image, &s);
}

cld_tensor *cld_image_resized_crop(const cld_tensor *image, cld_rect crop, int out_height, int out_width,
                                   cld_filter filter) {
    CLD_TRY_NULL(check_image("resized_crop", image));
    int64_t height = image->a.shape[0], width = image->a.shape[1];
    if (!lies_in(crop.top, crop.left, crop.height, crop.width, (int)height, (int)width))
        return cld_fail_null(CLD_INVALID,
                             "resized_crop: top %d, left %d, height %d, width %d is not inside %s", crop.top,
                             crop.left, crop.height, crop.width, cld_describe(&image->a));
    if (!is_side(out_height) || !is_side(out_width))
        return cld_fail_null(CLD_INVALID, "resized_crop: size must be 1 to 65535, got %d x %d", out_height,
                             out_width);
    cld_view_instruction s = {.op = CLD_VIEW_RESAMPLE,
                              .resample = {.top = (float)crop.top,
                                           .left = (float)crop.left,
                                           .height = (float)crop.height,
                                           .width = (float)crop.width,
                                           .out_height = out_height,
                                           .out_width = out_width,
                                           .window = {0, 0, out_height, out_width},
                                           .filter = filter}};
    return follow_one("resized_crop", image, &s);
}

cld_tensor *cld_image_resize(const cld_tensor *image, int out_height, int out_width, cld_filter filter) {
    CLD_TRY_NULL(check_image("resize", image));
    cld_rect whole = {0, 0, (int)image->a.shape[0], (int)image->a.shape[1]};
    return cld_image_resized_crop(image, whole, out_height, out_width, filter);
}

cld_tensor *cld_image_normalize(const cld_tensor *image, const float mean[3], const float std[3]) {
    cld_view_instruction s = {.op = CLD_VIEW_NORMALIZE};
    memcpy(s.normalize.mean, mean, sizeof s.normalize.mean);
    memcpy(s.normalize.std, std, sizeof s.normalize.std);
    return follow_one("normalize", image, &s);
}
