/* Writes PyTorch's zip format: named tensors as the OrderedDict of a state dict, which torch.load reads with
 * weights_only=True and with mmap=True.
 *
 *     archive/data.pkl      the dictionary; byte for byte what torch.save writes for the same tensors
 *     archive/byteorder     "little"
 *     archive/data/0 ...    the elements of each tensor, dense
 *     archive/version       "3\n"
 */
#ifndef CLD_IO_TORCH_WRITE_H
#define CLD_IO_TORCH_WRITE_H

#include "runtime/io/safetensors.h" /* cld_named_tensor */

/* Writes the tensors in the given order; names must differ. They may have any layout, strides and device. Written as
 * file.h says. */
cld_status cld_torch_save(const char *path, const cld_named_tensor *tensors, size_t count);

/* Writes detectron2's model file: a pickle of {"model": {name: NumPy array}, "__author__": author,
 * "matching_heuristics": True}. The last entry makes detectron2 match the names by their ends. Protocol 3, with the old
 * names of NumPy's functions, which new versions know too. */
cld_status cld_detectron2_save(const char *path, const cld_named_tensor *tensors, size_t count,
                               const char *author);

#endif
