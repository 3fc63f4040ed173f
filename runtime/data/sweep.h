/* Every image of a data set once, in order, fully decoded by worker threads: to check a set, or to make another set
 * from it.
 *
 *     cld_sweep *s = cld_sweep_new(set, &(cld_sweep_options){.make = CLD_SWEEP_JPEG, .side = 256, .quality = 90, .workers = 4});
 *     cld_sweep_item item;
 *     while (cld_sweep_next(s, &item) == CLD_OK && item.row >= 0) ...      -- -1 after the last
 *     cld_sweep_free(s);
 *
 * Unlike the loader it replaces nothing: an image that cannot be read is an item that says why. Workers are ahead by a
 * fixed number of images, so memory does not grow with the size of the set. The results do not depend on the workers.
 */
#ifndef CLD_DATA_SWEEP_H
#define CLD_DATA_SWEEP_H

#include "runtime/data/dataset.h"
#include "runtime/images/picture_facts.h"

typedef enum cld_sweep_make {
    CLD_SWEEP_NOTHING,
    /* A JPEG, with the shorter side at most `side` pixels (0: any size). A file that already is such a JPEG is copied:
     * three channels, not larger, and upright. */
    CLD_SWEEP_JPEG,
    CLD_SWEEP_SQUARE /* u8 (side, side, 3): the shorter side resized to this, then the middle */
} cld_sweep_make;

typedef struct cld_sweep_options {
    cld_sweep_make make;
    int side, quality; /* quality: 1 to 100, of a new JPEG */
    int workers;       /* 0, or a set with one_thread: the caller's thread */
} cld_sweep_options;

typedef struct cld_sweep_item {
    int64_t row;                 /* -1: there are no more */
    char *problem;               /* why it cannot be read, without its name; NULL: it can be read */
    int height, width;           /* as the data set gives it; 0 if it cannot be opened */
    bool is_file;                /* the next three are known */
    cld_picture_facts facts;     /* if there is no problem */
    uint64_t file_bytes, digest; /* files with the same bytes have the same digest (64 bits) */
    uint8_t *made;               /* the result */
    size_t made_bytes;           /* 0: there is none */
    bool is_copy;                /* made is the file itself */
} cld_sweep_item;

typedef struct cld_sweep cld_sweep;

cld_sweep *cld_sweep_new(cld_dataset *set, const cld_sweep_options *options); /* keeps the set */
/* The item's pointers are valid until the next call. CLD_INTERRUPTED: a signal came while it waited; the next call
 * continues to wait. Any other error is not about an image, and ends the sweep. */
cld_status cld_sweep_next(cld_sweep *s, cld_sweep_item *out);
void cld_sweep_free(cld_sweep *s); /* at any time; NULL is fine. Waits for reads in progress */

#endif
