/* Decodes JPEG, PNG, PPM and PGM files to interleaved 8-bit RGB, with the same pixels as Pillow's convert("RGB").
 *
 * A file's bytes, never its name, decide what it is. Opening a file reads its header. Decoding makes the requested
 * part, at full size or, for a JPEG, at a half, a quarter or an eighth of it. The bytes are untrusted: a size that a
 * header claims is checked against CLD_PICTURE_MAX_PIXELS and the file's length before anything of that size is
 * allocated. Decoding needs 3 bytes per pixel of the result, and for a JPEG of several scans (a progressive one) up to
 * 8 bytes per pixel of the whole image. The messages do not name the file: the caller puts its name in front.
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
    (178956970) /* twice Pillow's warning level, where Pillow itself reports a decompression bomb */

typedef enum cld_picture_kind { CLD_PICTURE_JPEG, CLD_PICTURE_PNG, CLD_PICTURE_PNM } cld_picture_kind;

typedef struct cld_picture {
    const uint8_t *bytes; /* the file, owned by the caller */
    size_t length;
    cld_picture_kind kind;
    int height, width; /* as stored */
    int orientation;   /* EXIF's, 1 to 8; 1 if there is none */
} cld_picture;

/* The CLD_INVALID error says what the file is instead (a GIF, an empty file), or what is wrong with its header. */
cld_status cld_picture_open(cld_picture *p, const void *bytes, size_t length);

/* Decodes at least the part, whose rectangle is in pixels of the full size. shrink is 1, 2, 4 or 8; only a JPEG is
 * shrunk, and out->shrink says by how much. out->data is in the scratch memory, valid until that is used again. If the
 * end of a file is damaged, a part still decodes if none of its rows is missing. The pixels equal those of the whole
 * image decoded at that scale, whatever the part. */
cld_status cld_picture_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                              cld_scratch *scratch);

/* How much an image may be shrunk if `crop` of its pixels along an axis are then resized to `target` (of the two axes,
 * the smaller result counts): so much that the shrunk crop is still at least 1.75 times the target. The mean difference
 * of such a view from the full-size one is below 2 levels on photographs (1.7 at worst; spec/decode_spec.lua has its
 * own measure). Without that margin it is up to 6, because libjpeg's small images are sharper than Pillow's filtered
 * large ones. */
static inline int cld_picture_shrink(double crop, double target) {
    int shrink = 8;
    while (shrink > 1 && !(crop >= 1.75 * shrink * target)) shrink /= 2;
    return shrink;
}

/* Turns and mirrors the image upright, as Pillow's ImageOps.exif_transpose does, into the scratch memory, which must
 * not be the one that holds the pixels. */
cld_status cld_picture_upright(cld_pixels *out, const cld_pixels *pixels, int orientation,
                               cld_scratch *scratch);

/* Encodes interleaved pixels as `kind`; quality, 1 to 100, is a JPEG's. The caller frees *bytes. */
cld_status cld_picture_encode(uint8_t **bytes, size_t *length, cld_picture_kind kind,
                              const uint8_t *interleaved, int height, int width, int quality);

/* The libraries that decode and encode, with their versions: "libjpeg-turbo 2.1.5, libpng 1.6.39". */
const char *cld_picture_libraries(void);

#endif
