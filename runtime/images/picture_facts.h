/* What an image file says of itself beside its size: for whoever looks through a data set. Of an open picture's header;
 * nothing is decoded.
 */
#ifndef CLD_DATA_PICTURE_FACTS_H
#define CLD_DATA_PICTURE_FACTS_H

#include <stdbool.h>

#include "runtime/images/decode.h"

typedef struct cld_picture_facts {
    cld_picture_kind kind;
    int channels; /* of colour: 1 is gray, 3 RGB (a palette's, too), 4 CMYK */
    int bits;     /* of a sample */
    bool alpha;   /* a channel of it; a palette's transparent entries are not looked for */
    int orientation;
} cld_picture_facts;

cld_picture_facts cld_picture_facts_of(const cld_picture *p);

/* "JPEG" */
const char *cld_picture_kind_name(cld_picture_kind kind);

#endif
