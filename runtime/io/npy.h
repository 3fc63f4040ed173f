/* NumPy's .npy files: one array each.
 *
 * Reads the numbers of up to 8 bytes that numpy.load reads, in versions 1 to 3 of the format, C and Fortran order and
 * either byte order, from any writer. If a file has several arrays, the first is read. A type that is not one of our
 * dtypes becomes one that can hold its values (numbers.h); bool becomes u8. Writes version 1, C order, little-endian.
 * NumPy has no name for bf16.
 */
#ifndef CLD_IO_NPY_H
#define CLD_IO_NPY_H

#include "runtime/io/file.h"
#include "runtime/io/numbers.h"
#include "runtime/tensor/tensor.h"

cld_tensor *cld_npy_load(const char *path); /* on the cpu */

/* The same from another source, whose bytes are taken in order, each once. CLD_UNSUPPORTED for an array that NumPy has
 * and that none of our dtypes can hold. */
typedef struct cld_npy_source {
    const char *path; /* every error begins with it */
    uint64_t bytes;   /* the source's size, or what it claims to be */
    cld_status (*take)(void *from, void *out, size_t bytes);
    void *from;
} cld_npy_source;
cld_tensor *cld_npy_read(const cld_npy_source *s);

/* Where the elements of an open file are, for a caller that reads them part by part. They must be u8 in C order. */
typedef struct cld_npy_bytes {
    int ndim;
    int64_t shape[CLD_MAX_DIMS];
    uint64_t start; /* byte of the first element; all of them lie in the file */
} cld_npy_bytes;
cld_status cld_npy_find_bytes(cld_npy_bytes *out, cld_reader *r);

/* t may have any layout, strides and device. As file.h says, the old file stays until the new one is on the disk. */
cld_status cld_npy_save(const char *path, cld_tensor *t);

/* Writes what comes before t's elements and sets *type to their type. Returns its length, or 0 with an error if NumPy
 * has no such type. */
enum { CLD_NPY_HEAD = 512 };
size_t cld_npy_head(char head[CLD_NPY_HEAD], const cld_tensor *t, cld_number_type *type);

#endif
