/* The kinds of image files behind decode.h, each with a function for the header and one for the pixels. A kind fills in
 * what its header says; decode.c checks the limits before anything is decoded. */
#ifndef CLD_DATA_DECODE_KINDS_H
#define CLD_DATA_DECODE_KINDS_H

#include "runtime/images/decode.h"

/* Reads height, width and orientation from the header; the kind is already set. */
cld_status cld_jpeg_open(cld_picture *p);
cld_status cld_png_open(cld_picture *p);
cld_status cld_pnm_open(cld_picture *p);

/* The part must be inside the image and not empty; shrink is 1, 2, 4 or 8. */
cld_status cld_jpeg_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                           cld_scratch *scratch);
cld_status cld_png_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch);
cld_status cld_pnm_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch);

/* The orientation, 1 to 8, from EXIF data (a TIFF header and its first directory); 1 if it is missing or damaged. */
int cld_exif_orientation(const uint8_t *bytes, size_t length);

static inline unsigned cld_be16(const uint8_t *b) { return (unsigned)b[0] << 8 | b[1]; }
static inline uint32_t cld_be32(const uint8_t *b) { return (uint32_t)cld_be16(b) << 16 | cld_be16(b + 2); }

#endif
