/* What an image file's header says besides the size, for the inspection of a data set. It is read from an open
 * picture's header; nothing is decoded.
 */
#ifndef CLD_DATA_PICTURE_FACTS_H
#define CLD_DATA_PICTURE_FACTS_H

#include <stdbool.h>

#include "runtime/images/decode.h"

typedef struct cld_picture_facts {
    cld_picture_kind kind;
    int channels; /* of colour: 1 is gray, 3 RGB (also for a palette), 4 CMYK */
    int bits;     /* of a sample */
    bool alpha;   /* has an alpha channel; a palette's transparent entries do not count */
    int orientation;
} cld_picture_facts;

cld_picture_facts cld_picture_facts_of(const cld_picture *p);

/* "JPEG" */
const char *cld_picture_kind_name(cld_picture_kind kind);

#endif
