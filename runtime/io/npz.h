/* NumPy's .npz files: a zip archive of .npy members, one for each name.
 *
 * Read: what numpy.savez and savez_compressed write, of any size (zip64), with zip.h; each array as npy.h says. Nothing of a
 * size that a member claims is allocated if the archive's bytes could not hold it. Of two members with one name the last
 * counts. Written: stored, not compressed, as numpy.savez does; NumPy's own functions read it.
 *
 *     cld_npz *z = cld_npz_open(path);
 *     for (;;) {
 *         CLD_TRY(cld_npz_next(z, &name, &tensor));
 *         if (!name) break;
 *         if (!tensor) ... cld_error_message() says why it cannot be had here
 *     }
 */
#ifndef CLD_IO_NPZ_H
#define CLD_IO_NPZ_H

#include "runtime/tensor/tensor.h"

typedef struct cld_npz cld_npz;

/* NULL on failure; every error names the file, and the member if it is one's. */
cld_npz *cld_npz_open(const char *path);
/* The next array: its name without .npy, good until the next call, NULL behind the last; and a new tensor on the cpu, or NULL
 * and an error record (complex numbers, text, a member that is no array) that does not fail the rest. */
cld_status cld_npz_next(cld_npz *z, const char **name, cld_tensor **tensor);
void cld_npz_close(cld_npz *z); /* NULL is fine */

typedef struct cld_npz_array {
    const char *name; /* UTF-8; no two may be the same */
    cld_tensor *tensor;
} cld_npz_array;

/* Tensors of any layout, strides and device; sorts the list by name. Written as file.h says. */
cld_status cld_npz_save(const char *path, cld_npz_array *arrays, size_t count);

#endif
