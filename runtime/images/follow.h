/* Views written as numbers, instruction by instruction (kernels/view.h): checked, and followed by the CPU or a device. For
 * specs, and for the functions of image.h.
 */
#ifndef CLD_IMAGES_FOLLOW_H
#define CLD_IMAGES_FOLLOW_H

#include "kernels/view.h"
#include "runtime/tensor/tensor.h"

#define CLD_IMAGE_STEPS   64    /* instructions of a view that is made here */
#define CLD_IMAGE_NUMBERS 16    /* of an instruction */
#define CLD_IMAGE_SIDE    65535 /* pixels of an image's side, at most */

/* ---- instructions.c: from numbers --------------------------------------------------------------------------- */

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

/* ---- follow.c ------------------------------------------------------------------------------------------- */

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

/* ---- for image.c --------------------------------------------------------------------------------------- */

/* Whether it is u8 (H, W, 3); `name`: the public function's, in messages. */
cld_status cld__image_check(const char *name, const cld_tensor *image);
/* Whether the rectangle lies in an image of all_height x all_width. */
bool cld__image_holds(int top, int left, int height, int width, int all_height, int all_width);
bool cld__image_is_side(int pixels);

#endif
