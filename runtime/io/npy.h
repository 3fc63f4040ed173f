/* NumPy's .npy files: one array each.
 *
 * Read: the numbers of up to 8 bytes that numpy.load reads, in versions 1 to 3 of the format, C and Fortran order, either
 * byte order, whoever wrote them; of several arrays in a file the first. A type that no dtype here is becomes one that
 * holds its values (numbers.h); bool becomes u8. Written: version 1, C order, little-endian. bf16 has no name in NumPy.
 */
#ifndef CLD_IO_NPY_H
#define CLD_IO_NPY_H

#include "runtime/io/file.h"
#include "runtime/io/numbers.h"
#include "runtime/tensor/tensor.h"

cld_tensor *cld_npy_load(const char *path); /* on the cpu */

/* The same from elsewhere: bytes that are taken one after the other, once each. CLD_UNSUPPORTED if NumPy has such arrays and
 * no dtype here has. */
typedef struct cld_npy_source {
    const char *path; /* what every error begins with */
    uint64_t bytes;   /* there are, or claimed to be */
    cld_status (*take)(void *from, void *out, size_t bytes);
    void *from;
} cld_npy_source;
cld_tensor *cld_npy_read(const cld_npy_source *s);

/* Where the elements of an open file are, for a reader that takes them one part after the other: of u8 in C order. */
typedef struct cld_npy_bytes {
    int ndim;
    int64_t shape[CLD_MAX_DIMS];
    uint64_t start; /* byte of the first element; all of them lie in the file */
} cld_npy_bytes;
cld_status cld_npy_find_bytes(cld_npy_bytes *out, cld_reader *r);

/* t of any layout, strides and device. Written as file.h says: the old file stays until the new one is on the disk. */
cld_status cld_npy_save(const char *path, cld_tensor *t);

/* What stands before t's elements, whose type is *type; 0 with an error, a sentence, if NumPy has none such. */
enum { CLD_NPY_HEAD = 512 };
size_t cld_npy_head(char head[CLD_NPY_HEAD], const cld_tensor *t, cld_number_type *type);

#endif
