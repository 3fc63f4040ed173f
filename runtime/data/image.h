/* Images: what Pillow and torchvision do to 8-bit RGB, with the same roundings.
 *
 * Data sets and the public functions hold images as (H, W, 3), interleaved. The kernels work on planes (3, H,
 * W), where neighbouring bytes are of one kind and loops vectorize; cld_image_resized_crop and
 * cld_image_from_interleaved go from one to the other. Kernels work in place unless they say otherwise.
 *
 * The loops are compiled for AVX2 and for any x86-64, and not for FMA: a fused multiply-add rounds once where
 * Pillow rounds twice, and then truncates to another integer.
 */
#ifndef CLD_DATA_IMAGE_H
#define CLD_DATA_IMAGE_H

#include "kernels/view.h"
#include "runtime/tensor/tensor.h"

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#    define CLD_IMAGE_SIMD __attribute__((target_clones("avx2", "default")))
#else
#    define CLD_IMAGE_SIMD
#endif

typedef struct cld_planes {
    uint8_t *data; /* (3, height, width), dense */
    int height, width;
} cld_planes;

/* Working memory that grows to what the largest image needed; zero-initialize, one per thread. */
typedef struct cld_scratch {
    uint8_t *data;
    size_t bytes;
} cld_scratch;
uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes); /* NULL: out of memory, recorded */
void cld_scratch_free(cld_scratch *s);

/* ---- kernels on planes: runtime/data/{color,resample,blur}.c ------------------------------------------- */

/* ImageEnhance's: blends with black, with the mean grey, with the grey image; factor >= 0. */
void cld_image_brightness(cld_planes image, float factor);
void cld_image_contrast(cld_planes image, float factor);
void cld_image_saturation(cld_planes image, float factor);
/* Turns the hue by factor in [-0.5, 0.5] of the circle, in Pillow's 8-bit HSV. */
void cld_image_hue(cld_planes image, double factor);
/* convert("L") in all three planes. */
void cld_image_grayscale(cld_planes image);
/* Mirrored left to right. */
void cld_image_hflip(cld_planes image);
/* ImageFilter.GaussianBlur(sigma), in pixels: three box blurs in each direction. */
cld_status cld_image_gaussian_blur(cld_planes image, double sigma, cld_scratch *scratch);

/* out = the part `crop` of an interleaved image (H, W, 3) whose rows are `width` pixels, resized to out's
 * size by Image.resize(BILINEAR): the filter widens where it shrinks ("antialiased"). */
cld_status cld_image_resized_crop(cld_planes out, const uint8_t *interleaved, int width, cld_rect crop,
                                  cld_scratch *scratch);

/* (H, W, 3), of the planes' size, to (3, H, W) and back. */
void cld_image_from_interleaved(cld_planes out, const uint8_t *interleaved);
void cld_image_to_interleaved(uint8_t *interleaved, cld_planes image);

/* out (3, H, W) = (image / 255 - mean[c]) / std[c], mirrored left to right where asked. */
void cld_image_normalize(float *out, cld_planes image, const cld_normalization *n, bool mirror);

/* ---- the same on tensors: runtime/data/image.c --------------------------------------------------------- */

typedef enum cld_image_op {
    CLD_IMAGE_BRIGHTNESS,
    CLD_IMAGE_CONTRAST,
    CLD_IMAGE_SATURATION,
    CLD_IMAGE_HUE,
    CLD_IMAGE_GRAYSCALE, /* no argument */
    CLD_IMAGE_HFLIP,     /* no argument */
    CLD_IMAGE_BLUR
} cld_image_op;

/* image u8 (H, W, 3) -> a new one; value is the factor, or the blur's sigma. */
cld_tensor *cld_image_apply(cld_image_op op, const cld_tensor *image, double value);
/* -> u8 (out_height, out_width, 3); the crop must lie inside the image. */
cld_tensor *cld_image_resized_crop_tensor(const cld_tensor *image, cld_rect crop, int out_height,
                                          int out_width);
/* -> f32 (3, H, W) */
cld_tensor *cld_image_normalize_tensor(const cld_tensor *image, const cld_normalization *n);

#endif
