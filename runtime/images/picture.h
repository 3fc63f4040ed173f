/* Reads image files into tensors u8 (height, width, 3) on the cpu, and writes them. Errors name the file. */
#ifndef CLD_DATA_PICTURE_H
#define CLD_DATA_PICTURE_H

#include "runtime/images/decode.h"
#include "runtime/tensor/tensor.h"

/* Decodes exactly the part of an image (NULL: all of it) from a file's bytes, at 1/shrink, as cld_picture_decode does.
 * Only the whole image can be turned upright. */
cld_tensor *cld_picture_tensor(const void *bytes, size_t length, const cld_rect *part, int shrink,
                               bool upright);
cld_tensor *cld_picture_tensor_of(cld_tensor *bytes, const cld_rect *part, int shrink,
                                  bool upright); /* bytes u8 (n) */
cld_tensor *cld_picture_read(const char *path, bool upright);

/* quality is only used for a JPEG. The file is replaced as a whole (runtime/io/file.h). */
cld_status cld_picture_write(const char *path, cld_picture_kind kind, cld_tensor *image, int quality);
/* The bytes of such a file, as u8 (n). */
cld_tensor *cld_picture_encoded(cld_picture_kind kind, cld_tensor *image, int quality);

#endif
