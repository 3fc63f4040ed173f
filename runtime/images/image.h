/* Image functions on tensors: u8 (height, width, 3), interleaved. Each is a view of a few instructions (kernels/view.h),
 * which the CPU follows; so they have Pillow's and torchvision's pixels, as the loader's views do.
 */
#ifndef CLD_DATA_IMAGE_H
#define CLD_DATA_IMAGE_H

#include "kernels/view.h"
#include "runtime/tensor/tensor.h"

#define CLD_IMAGE_STEPS   64 /* instructions of a view that is made here */
#define CLD_IMAGE_NUMBERS 16 /* of an instruction */

/* ---- one function each --------------------------------------------------------------------------------- */

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

/* image u8 (H, W, 3) -> a new one; value is the factor, the blur's sigma, the threshold, or the bits that are kept. */
cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value);
/* -> u8 (out_height, out_width, 3); the crop must lie inside the image. */
cld_tensor *cld_image_resized_crop(const cld_tensor *image, cld_rect crop, int out_height, int out_width,
                                   cld_filter filter);
/* The whole image. */
cld_tensor *cld_image_resize(const cld_tensor *image, int out_height, int out_width, cld_filter filter);
/* -> f32 (3, H, W) = (image / 255 - mean[c]) / std[c] */
cld_tensor *cld_image_normalize(const cld_tensor *image, const float mean[3], const float std[3]);

/* ---- instructions as numbers --------------------------------------------------------------------------- */

/* From its name in lower case and its numbers:
 *
 *     resample      top, left, height, width, out_height, out_width, the window's top, left, height, width,
 *                   filter (1 bilinear, 2 bicubic), flip (0 or 1)
 *     window        top, left, height, width, fill r, g, b
 *     brightness, contrast, saturation, sharpness   factor
 *     hue           shift, 0 to 255
 *     box_blur      sigma
 *     tap_blur      the weight of the middle, then outwards
 *     solarize, solarize_add, posterize             level
 *     affine        the six of the matrix, fill r, g, b, filter
 *     normalize     mean r, g, b, std r, g, b, flip
 *     erase         top, left, height, width, value r, g, b
 *     flip, grey, invert, autocontrast, equalize    none
 */
cld_status cld_image_instruction(cld_view_instruction *out, const char *name, const double *numbers,
                                 int count);

/* Fills in the view's header: whether its instructions make sense, in their order, of an image of this size. */
cld_status cld_image_finish_view(cld_view *v, int count, int height, int width);

/* How an image is given to a view: as a decoder may give it. Zeros: as it is. */
typedef struct cld_image_given {
    bool sparing; /* a copy of no more pixels than cld_view_needs says */
    int shrink;   /* it is 2, 4 or 8 times as large as its pixels; a view was finished for that size */
} cld_image_given;

/* u8 (H, W, 3) -> u8 (height, width, 3), or, where the last instructions are normalize [and erase], f32 (3, height,
 * width). */
cld_tensor *cld_image_follow(const cld_tensor *image, const cld_view *v, const cld_image_given *given);

/* images u8 (N, H, W, 3) -> (n, 3, height, width) of the dtype, on the images' device: of the rows (i64, n, there; or NULL:
 * the first n) by n views, `stride` bytes apart, all of one size. */
cld_tensor *cld_image_follow_all(cld_tensor *images, cld_tensor *rows, const cld_view *views, size_t stride,
                                 int64_t n, cld_dtype dtype);

#endif
