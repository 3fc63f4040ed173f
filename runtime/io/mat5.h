/* Reads MATLAB 5 files (MAT-File Level 5), as far as ImageNet's meta.mat needs it.
 *
 *     cld_mat5 *m = cld_mat5_open(bytes, length, "data/meta.mat", "synsets");
 *     for (int64_t i = 0; i < cld_mat5_count(m); i++) CLD_TRY(cld_mat5_number(m, i, "ILSVRC2012_ID", &id));
 *
 * Reads one variable that is an array of structs, compressed or not, little-endian, and gives access to those of its
 * fields that are one number or a text. Nothing in the file is trusted: allocations are in proportion to its size, and
 * compressed data may unpack to at most MOST_INFLATED bytes.
 */
#ifndef CLD_IO_MAT5_H
#define CLD_IO_MAT5_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_mat5 cld_mat5;

/* `path` is for messages; the bytes may be freed afterwards. */
cld_mat5 *cld_mat5_open(const void *bytes, size_t length, const char *path, const char *variable);
void cld_mat5_free(cld_mat5 *m); /* NULL is fine */

int64_t cld_mat5_count(const cld_mat5 *m); /* the number of structs */
/* A field of struct i, from 0: one real number, or a text of ASCII shorter than size. */
cld_status cld_mat5_number(const cld_mat5 *m, int64_t i, const char *field, double *out);
cld_status cld_mat5_text(const cld_mat5 *m, int64_t i, const char *field, char *out, size_t size);

#endif
