/* Image files from and to tensors u8 (height, width, 3), on the cpu. Errors name the file. */
#ifndef CLD_DATA_PICTURE_H
#define CLD_DATA_PICTURE_H

#include "runtime/images/decode.h"
#include "runtime/tensor/tensor.h"

/* The part of an image file's bytes that is wanted (NULL: all), at 1/shrink, as cld_picture_decode makes it; cut to
 * exactly the part. Upright only of all of it. */
cld_tensor *cld_picture_tensor(const void *bytes, size_t length, const cld_rect *part, int shrink,
                               bool upright);
cld_tensor *cld_picture_tensor_of(cld_tensor *bytes, const cld_rect *part, int shrink,
                                  bool upright); /* bytes u8 (n) */
cld_tensor *cld_picture_read(const char *path, bool upright);

/* quality is a JPEG's, and ignored in others. The file is replaced as a whole (runtime/io/file.h). */
cld_status cld_picture_write(const char *path, cld_picture_kind kind, cld_tensor *image, int quality);
/* The bytes of such a file: u8 (n). */
cld_tensor *cld_picture_encoded(cld_picture_kind kind, cld_tensor *image, int quality);

#endif
