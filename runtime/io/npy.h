/* NumPy's .npy files: one array each. Read: versions 1 to 3, C and Fortran order, little-endian
 * <f4 <f8 <f2 <i8 <i4 |u1 |b1 (bool becomes u8). Written: version 1, C order. bf16 has no name in NumPy. */
#ifndef CLD_IO_NPY_H
#define CLD_IO_NPY_H

#include "runtime/tensor/tensor.h"

cld_tensor *cld_npy_load(const char *path);
cld_status cld_npy_save(const char *path, cld_tensor *t);

#endif
