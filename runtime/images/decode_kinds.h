/* The kinds of image files behind decode.h: of each its header and its pixels. A kind fills in what its header says; the
 * limits are decode.c's to check, before anything is decoded. */
#ifndef CLD_DATA_DECODE_KINDS_H
#define CLD_DATA_DECODE_KINDS_H

#include "runtime/images/decode.h"

/* Height, width and orientation out of the header; the kind is known. */
cld_status cld_jpeg_open(cld_picture *p);
cld_status cld_png_open(cld_picture *p);
cld_status cld_pnm_open(cld_picture *p);

/* The part lies inside the image and is not empty; shrink is 1, 2, 4 or 8. */
cld_status cld_jpeg_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                           cld_scratch *scratch);
cld_status cld_png_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch);
cld_status cld_pnm_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch);

/* Orientation, 1 to 8, out of a block of EXIF (a TIFF header and its first folder); 1 if it is not there or damaged. */
int cld_exif_orientation(const uint8_t *bytes, size_t length);

static inline unsigned cld_be16(const uint8_t *b) { return (unsigned)b[0] << 8 | b[1]; }
static inline uint32_t cld_be32(const uint8_t *b) { return (uint32_t)cld_be16(b) << 16 | cld_be16(b + 2); }

#endif
