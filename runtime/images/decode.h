/* Image files: JPEG, PNG, PPM and PGM to interleaved 8-bit RGB, the pixels that Pillow's convert("RGB") gives.
 *
 * What a file is, its bytes tell, never its name. Opening one reads its header; decoding makes the part that is asked for,
 * at full size or, for a JPEG, at a half, a quarter or an eighth of it. Bytes are hostile until decoded: nothing of a size
 * that a header claims is allocated before the claim is checked against CLD_PICTURE_MAX_PIXELS and against the file's
 * length. Decoding takes 3 bytes for each pixel that it gives, and for a JPEG of several scans (progressive ones) up to 8
 * for each pixel of the whole. Messages do not know the file's name: who has it puts it in front.
 *
 *     cld_picture p;
 *     CLD_TRY(cld_picture_open(&p, bytes, length));
 *     cld_pixels pixels;
 *     CLD_TRY(cld_picture_decode(&pixels, &p, (cld_rect){0, 0, p.height, p.width}, 1, &scratch));
 */
#ifndef CLD_DATA_DECODE_H
#define CLD_DATA_DECODE_H

#include "kernels/view.h"
#include "runtime/core/error.h"
#include "runtime/core/scratch.h"

#define CLD_PICTURE_MAX_PIXELS                                                                               \
    (178956970) /* twice Pillow's warning level: its own limit of a decompression bomb */

typedef enum cld_picture_kind { CLD_PICTURE_JPEG, CLD_PICTURE_PNG, CLD_PICTURE_PNM } cld_picture_kind;

typedef struct cld_picture {
    const uint8_t *bytes; /* the file, the caller's */
    size_t length;
    cld_picture_kind kind;
    int height, width; /* as stored */
    int orientation;   /* EXIF's, 1 to 8; 1 if there is none */
} cld_picture;

/* CLD_INVALID: what it is instead (a GIF, say; an empty file), or what is wrong with its header. */
cld_status cld_picture_open(cld_picture *p, const void *bytes, size_t length);

/* out: at least the part, whose rectangle counts in pixels of the full size; shrink is 1, 2, 4 or 8, and only a JPEG is
 * shrunk: out->shrink says by how much. out->data is the scratch memory's, good until that is used again. A part that is
 * cut off from a damaged end decodes all the same if none of its rows is missing. Pixels are equal to those of the whole
 * image decoded at that scale, whatever the part. */
cld_status cld_picture_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                              cld_scratch *scratch);

/* How far an image may be shrunk of which `crop` pixels are resized to `target`, along the axis where they are fewest:
 * so far that what is left is resized to 1/1.75 at least. The mean difference of such a view from the full-size one is
 * below 2 levels on photographs (1.7 at worst, spec/decode_spec.lua has its own measure); without that reserve it is up to
 * 6, because libjpeg's small images are sharper than what Pillow's filter makes of the large one. */
static inline int cld_picture_shrink(double crop, double target) {
    int shrink = 8;
    while (shrink > 1 && !(crop >= 1.75 * shrink * target)) shrink /= 2;
    return shrink;
}

/* Turned and mirrored upright, as Pillow's ImageOps.exif_transpose does, into the scratch memory, which is another than that
 * in which the pixels lie. */
cld_status cld_picture_upright(cld_pixels *out, const cld_pixels *pixels, int orientation,
                               cld_scratch *scratch);

/* A JPEG (quality 1 to 100) or a PNG of interleaved pixels, by `kind`. *bytes is malloc's. */
cld_status cld_picture_encode(uint8_t **bytes, size_t *length, cld_picture_kind kind,
                              const uint8_t *interleaved, int height, int width, int quality);

/* What decodes and encodes, and the versions: "libjpeg-turbo 2.1.5, libpng 1.6.39". */
const char *cld_picture_libraries(void);

#endif
