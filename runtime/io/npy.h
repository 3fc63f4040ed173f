/* NumPy's .npy files: one array each.
 *
 * Read: versions 1 to 3, C and Fortran order, either byte order, and NumPy's numbers of up to 8 bytes. A type that we
 * have not becomes the nearest that holds all its values: bool u8; i1, i2 and u2 i32; u4 i64; u8 i64 as well, where a
 * value that does not fit is an error. Written: version 1, C order, little-endian. bf16 has no name in NumPy.
 */
#ifndef CLD_IO_NPY_H
#define CLD_IO_NPY_H

#include "runtime/tensor/tensor.h"

cld_tensor *cld_npy_load(const char *path); /* on the cpu */
/* t of any layout, strides and device. Written as file.h says: the old file stays until the new one is on the disk. */
cld_status cld_npy_save(const char *path, cld_tensor *t);

#endif
