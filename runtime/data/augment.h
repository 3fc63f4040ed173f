/* One image to one view: crop, colour, grey, blur, flip, normalize, erase, in this order and with
 * torchvision's distributions (SimCLR's and MoCo's augmentations are settings of this one pipeline).
 *
 * Everything random is drawn from one Philox stream per (seed, epoch, sample, view): a view does not depend
 * on who computes it, nor when.
 */
#ifndef CLD_DATA_AUGMENT_H
#define CLD_DATA_AUGMENT_H

#include "kernels/view.h"
#include "runtime/data/image.h"

/* The name of the first setting that makes no sense, with what would. */
cld_status cld_augment_check(const cld_augment *a);

typedef struct cld_augment_scratch {
    cld_scratch view, work; /* the 8-bit view; what its kernels need */
} cld_augment_scratch;
void cld_augment_scratch_free(cld_augment_scratch *s);

/* out (3, height and width of the settings), normalized, from an interleaved image (height, width, 3). */
cld_status cld_augment_view(float *out, const uint8_t *image, int height, int width,
                            const cld_view_settings *s, cld_philox rng, cld_augment_scratch *scratch);

#endif
