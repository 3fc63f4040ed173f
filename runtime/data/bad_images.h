/* The images of a data set that could not be read: each is reported once and counted, and too many are an error. One
 * for all epochs of a loader; thread-safe. */
#ifndef CLD_DATA_BAD_IMAGES_H
#define CLD_DATA_BAD_IMAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_bad_images cld_bad_images;

/* For a set of `images` images. It is an error if more than `share` of them, and more than one, are bad; strict: if any
 * is. */
cld_bad_images *cld_bad_images_new(int64_t images, double share, bool strict);
cld_bad_images *cld_bad_images_retain(cld_bad_images *b);
void cld_bad_images_free(cld_bad_images *b); /* the last reference frees it; NULL is allowed */

/* This image cannot be read; `reason` names it. Returns CLD_OK if another may take its place, else an error that lists
 * them. */
cld_status cld_bad_images_add(cld_bad_images *b, int64_t row, const char *reason);
/* The number of reasons kept: one for every bad image found, unless memory ran out. */
int64_t cld_bad_images_kept(cld_bad_images *b);
/* The i-th reason from 0, in the order of finding, and the image's row; NULL if there are fewer. Valid as long as b. */
const char *cld_bad_images_reason(cld_bad_images *b, int64_t i, int64_t *row);

#endif
