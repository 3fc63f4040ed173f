/* Image functions on tensors u8 (height, width, 3), interleaved. Each is a view of a few instructions (kernels/view.h)
 * that the CPU executes, so the pixels are those of Pillow and torchvision, as in the loader's views.
 */
#ifndef CLD_IMAGES_IMAGE_H
#define CLD_IMAGES_IMAGE_H

#include "kernels/view.h"
#include "runtime/tensor/tensor.h"

typedef enum cld_image_op {
    CLD_IMAGE_BRIGHTNESS,
    CLD_IMAGE_CONTRAST,
    CLD_IMAGE_SATURATION,
    CLD_IMAGE_SHARPNESS,
    CLD_IMAGE_HUE,
    CLD_IMAGE_BLUR,
    CLD_IMAGE_SOLARIZE,
    CLD_IMAGE_POSTERIZE,
    CLD_IMAGE_GRAYSCALE, /* no value, from here on */
    CLD_IMAGE_HFLIP,
    CLD_IMAGE_INVERT,
    CLD_IMAGE_AUTOCONTRAST,
    CLD_IMAGE_EQUALIZE
} cld_image_op;

/* image u8 (H, W, 3) -> a new one; value is the factor, the blur's sigma, the threshold, or the number of bits to
 * keep. */
cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value);
/* -> u8 (out_height, out_width, 3); the crop must lie inside the image. */
cld_tensor *cld_image_resized_crop(const cld_tensor *image, cld_rect crop, int out_height, int out_width,
                                   cld_filter filter);
/* The whole image. */
cld_tensor *cld_image_resize(const cld_tensor *image, int out_height, int out_width, cld_filter filter);
/* -> f32 (3, H, W) = (image / 255 - mean[c]) / std[c] */
cld_tensor *cld_image_normalize(const cld_tensor *image, const float mean[3], const float std[3]);

#endif
