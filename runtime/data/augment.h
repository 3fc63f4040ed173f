/* One image to one view: crop, colour, grey, blur, flip, normalize, erase, in this order and with
 * torchvision's distributions (SimCLR's and MoCo's augmentations are settings of this one pipeline).
 *
 * Everything random is drawn from one Philox stream per (seed, epoch, sample, view): a view does not depend
 * on who computes it, nor when.
 */
#ifndef CLD_DATA_AUGMENT_H
#define CLD_DATA_AUGMENT_H

#include "runtime/core/philox.h"
#include "runtime/data/image.h"

typedef struct cld_augment {
    int height, width; /* of the view */
    bool crop;         /* RandomResizedCrop; else the whole image is resized */
    double scale[2];   /* area of the crop as a share of the image's */
    double ratio[2];   /* width / height of the crop, log-uniform */
    double jitter_p;   /* probability of ColorJitter; its four parts come in random order */
    double brightness, contrast, saturation; /* factor uniform in [max(0, 1 - x), 1 + x] */
    double hue;                              /* factor uniform in [-x, x] */
    double grayscale_p;
    double blur_p, sigma[2]; /* in pixels of the view, uniform between the two */
    double flip_p;
    cld_normalization normalization;
    double erasing_p, erasing_area[2], erasing_ratio[2]; /* RandomErasing with zeros, after normalize */
} cld_augment;

/* The name of the first setting that makes no sense, with what would. */
cld_status cld_augment_check(const cld_augment *a);

typedef struct cld_augment_scratch {
    cld_scratch view, work; /* the 8-bit view; what its kernels need */
} cld_augment_scratch;
void cld_augment_scratch_free(cld_augment_scratch *s);

/* out (3, a->height, a->width), normalized, from an interleaved image (height, width, 3). */
cld_status cld_augment_view(float *out, const uint8_t *image, int height, int width, const cld_augment *a,
                            cld_philox rng, cld_augment_scratch *scratch);

#endif
