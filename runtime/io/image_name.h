/* What a file's name says about an image: torchvision's list of extensions, and those of images that are not read here.
 *
 * The name only selects the files of a data set. The content decides how a file is decoded.
 */
#ifndef CLD_IO_IMAGE_NAME_H
#define CLD_IO_IMAGE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cld_image_kind {
    CLD_NO_IMAGE = -2,
    CLD_READABLE = -1, /* .jpg .jpeg .png .ppm .pgm, in any case */
    CLD_BMP = 0,       /* from here on: images that cannot be read */
    CLD_TIFF,          /* .tif .tiff */
    CLD_WEBP,
    CLD_GIF,
    CLD_HEIC,
    CLD_AVIF,
    CLD_UNREADABLE_KINDS
} cld_image_kind;

cld_image_kind cld_image_kind_of(const char *name);
/* "BMP" */
const char *cld_unreadable_name(cld_image_kind kind);
/* "3 TIFF, 1 GIF", or "" if there are none. */
void cld_unreadable_text(char *out, size_t size, const int64_t counts[CLD_UNREADABLE_KINDS]);

/* Whether all of it is well-formed UTF-8. */
bool cld_is_utf8(const char *text);

#endif
