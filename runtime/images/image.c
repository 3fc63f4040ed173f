/* Pillow's operations on tensors, one function each: views of one instruction. */
#include "runtime/images/image.h"

#include <math.h>
#include <string.h>

#include "kernels/pixel.h"
#include "runtime/core/error.h"
#include "runtime/images/follow.h"

/* A view with room for its instructions. */
typedef struct written {
    cld_view view;
    cld_view_instruction step[CLD_IMAGE_STEPS];
} written;

/* `name` is the public function's, for messages. */
static cld_tensor *follow_one(const char *name, const cld_tensor *image, const cld_view_instruction *s) {
    CLD_TRY_NULL(cld__image_check(name, image));
    written w = {.step[0] = *s};
    CLD_TRY_NULL(cld_image_finish_view(&w.view, 1, (int)image->a.shape[0], (int)image->a.shape[1]));
    return cld_image_follow(image, &w.view, &(cld_image_given){0});
}

static const struct {
    const char *name, *value; /* value: its name, NULL if there is none */
    double low, high;
    const char *instruction; /* see follow.h */
} ops[] = {
    [CLD_IMAGE_BRIGHTNESS] = {"adjust_brightness", "factor", 0, 1e6, "brightness"},
    [CLD_IMAGE_CONTRAST] = {"adjust_contrast", "factor", 0, 1e6, "contrast"},
    [CLD_IMAGE_SATURATION] = {"adjust_saturation", "factor", 0, 1e6, "saturation"},
    [CLD_IMAGE_SHARPNESS] = {"adjust_sharpness", "factor", 0, 1e6, "sharpness"},
    [CLD_IMAGE_HUE] = {"adjust_hue", "factor", -0.5, 0.5, "hue"},
    [CLD_IMAGE_BLUR] = {"gaussian_blur", "sigma", 0, 1000, "box_blur"},
    [CLD_IMAGE_SOLARIZE] = {"solarize", "threshold", 0, 256, "solarize"},
    [CLD_IMAGE_POSTERIZE] = {"posterize", "bits", 0, 8, "posterize"},
    [CLD_IMAGE_GRAYSCALE] = {"grayscale", NULL, 0, 0, "grey"},
    [CLD_IMAGE_HFLIP] = {"hflip", NULL, 0, 0, "flip"},
    [CLD_IMAGE_INVERT] = {"invert", NULL, 0, 0, "invert"},
    [CLD_IMAGE_AUTOCONTRAST] = {"autocontrast", NULL, 0, 0, "autocontrast"},
    [CLD_IMAGE_EQUALIZE] = {"equalize", NULL, 0, 0, "equalize"},
};

cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value) {
    const char *name = ops[op].name;
    CLD_TRY_NULL(cld__image_check(name, image));
    bool integer = op == CLD_IMAGE_SOLARIZE || op == CLD_IMAGE_POSTERIZE;
    if (ops[op].value && !(value >= ops[op].low && value <= ops[op].high))
        return cld_fail_null(CLD_INVALID, "%s: %s must be %g to %g, got %g", name, ops[op].value, ops[op].low,
                             ops[op].high, value);
    if (integer && value != floor(value))
        return cld_fail_null(CLD_INVALID, "%s: %s must be an integer, got %g", name, ops[op].value, value);
    if (op == CLD_IMAGE_HUE) value = cld_pixel_hue_shift(value);
    cld_view_instruction s;
    CLD_TRY_NULL(cld_image_instruction(&s, ops[op].instruction, &value, ops[op].value ? 1 : 0));
    return follow_one(name, image, &s);
}

cld_tensor *cld_image_resized_crop(const cld_tensor *image, cld_rect crop, int out_height, int out_width,
                                   cld_filter filter) {
    CLD_TRY_NULL(cld__image_check("resized_crop", image));
    int64_t height = image->a.shape[0], width = image->a.shape[1];
    if (!cld__image_holds(crop.top, crop.left, crop.height, crop.width, (int)height, (int)width))
        return cld_fail_null(CLD_INVALID,
                             "resized_crop: top %d, left %d, height %d, width %d is not inside %s", crop.top,
                             crop.left, crop.height, crop.width, cld_describe(&image->a));
    if (!cld__image_is_side(out_height) || !cld__image_is_side(out_width))
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
    CLD_TRY_NULL(cld__image_check("resize", image));
    cld_rect whole = {0, 0, (int)image->a.shape[0], (int)image->a.shape[1]};
    return cld_image_resized_crop(image, whole, out_height, out_width, filter);
}

cld_tensor *cld_image_normalize(const cld_tensor *image, const float mean[3], const float std[3]) {
    cld_view_instruction s = {.op = CLD_VIEW_NORMALIZE};
    memcpy(s.normalize.mean, mean, sizeof s.normalize.mean);
    memcpy(s.normalize.std, std, sizeof s.normalize.std);
    return follow_one("normalize", image, &s);
}
