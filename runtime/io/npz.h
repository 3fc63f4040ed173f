/* NumPy's .npz files: a zip archive of .npy members, one for each name.
 *
 * Reads what numpy.savez and savez_compressed write, of any size (zip64), with zip.h, and each array as npy.h says. If
 * a member claims a size that the archive's bytes could not hold, nothing of that size is allocated. If two members
 * have the same name, the last one counts. Writes members uncompressed, as numpy.savez does; NumPy's own functions read
 * them.
 *
 *     cld_npz *z = cld_npz_open(path);
 *     for (;;) {
 *         CLD_TRY(cld_npz_next(z, &name, &tensor));
 *         if (!name) break;
 *         if (!tensor) ... cld_error_message() says why it cannot be read here
 *     }
 */
#ifndef CLD_IO_NPZ_H
#define CLD_IO_NPZ_H

#include "runtime/tensor/tensor.h"

typedef struct cld_npz cld_npz;

/* NULL on failure. Every error names the file, and the member if it is about one. */
cld_npz *cld_npz_open(const char *path);
/* The next array. *name has no .npy, is valid until the next call, and is NULL after the last array. *tensor is a new
 * tensor on the cpu, or NULL with an error record (complex numbers, text, a member that is not an array); the following
 * arrays can still be read. */
cld_status cld_npz_next(cld_npz *z, const char **name, cld_tensor **tensor);
void cld_npz_close(cld_npz *z); /* NULL is fine */

typedef struct cld_npz_array {
    const char *name; /* UTF-8; no two may be the same */
    cld_tensor *tensor;
} cld_npz_array;

/* The tensors may have any layout, strides and device. Sorts the list by name. Written as file.h says. */
cld_status cld_npz_save(const char *path, cld_npz_array *arrays, size_t count);

#endif
