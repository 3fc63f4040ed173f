/* Views written as numbers, instruction by instruction (kernels/view.h): they are checked, and then executed by the CPU
 * or a device. For specs, and for the functions of image.h.
 */
#ifndef CLD_IMAGES_FOLLOW_H
#define CLD_IMAGES_FOLLOW_H

#include "kernels/view.h"
#include "runtime/tensor/tensor.h"

#define CLD_IMAGE_STEPS   64    /* the most instructions of a view that is made here */
#define CLD_IMAGE_NUMBERS 16    /* the most numbers of an instruction */
#define CLD_IMAGE_SIDE    65535 /* the most pixels of an image's side */

/* ---- instructions.c: from numbers --------------------------------------------------------------------------- */

/* Makes an instruction from its name in lower case and its numbers:
 *
 *     resample      top, left, height, width, out_height, out_width, the window's top, left, height, width,
 *                   filter (1 bilinear, 2 bicubic), flip (0 or 1)
 *     window        top, left, height, width, fill r, g, b
 *     brightness, contrast, saturation, sharpness   factor
 *     hue           shift, 0 to 255
 *     box_blur      sigma
 *     tap_blur      the weight of the middle, then the others outwards
 *     solarize, solarize_add, posterize             level
 *     affine        the six numbers of the matrix, fill r, g, b, filter
 *     normalize     mean r, g, b, std r, g, b, flip
 *     erase         top, left, height, width, value r, g, b
 *     flip, grey, invert, autocontrast, equalize    none
 */
cld_status cld_image_instruction(cld_view_instruction *out, const char *name, const double *numbers,
                                 int count);

/* Fills in the view's header, and checks that its instructions, in their order, are valid for an image of this size. */
cld_status cld_image_finish_view(cld_view *v, int count, int height, int width);

/* ---- follow.c ------------------------------------------------------------------------------------------- */

/* How the image is given to the view: in a way that a decoder might. All zero: as it is. */
typedef struct cld_image_given {
    bool sparing; /* only the pixels that cld_view_needs asks for, as a copy */
    int shrink;   /* the full size is 2, 4 or 8 times that of the pixels; the view was finished for it */
} cld_image_given;

/* u8 (H, W, 3) -> u8 (height, width, 3), or f32 (3, height, width) if the last instructions are normalize [and
 * erase]. */
cld_tensor *cld_image_follow(const cld_tensor *image, const cld_view *v, const cld_image_given *given);

/* images u8 (N, H, W, 3) -> (n, 3, height, width) of the dtype, on the images' device. View i is applied to image
 * rows[i] (i64 (n) on the same device; NULL: image i). The views are `stride` bytes apart and all of the same size. */
cld_tensor *cld_image_follow_all(cld_tensor *images, cld_tensor *rows, const cld_view *views, size_t stride,
                                 int64_t n, cld_dtype dtype);

/* ---- for image.c --------------------------------------------------------------------------------------- */

/* Checks that the image is u8 (H, W, 3). `name` is the public function's, for messages. */
cld_status cld__image_check(const char *name, const cld_tensor *image);
/* Whether the rectangle is inside an image of all_height x all_width. */
bool cld__image_holds(int top, int left, int height, int width, int all_height, int all_width);
bool cld__image_is_side(int pixels);

#endif
