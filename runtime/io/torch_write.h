/* PyTorch's zip format written: named tensors as the OrderedDict of a state dict, which torch.load reads with
 * weights_only=True and with mmap=True.
 *
 *     archive/data.pkl      the dictionary; byte for byte what torch.save writes of the same tensors
 *     archive/byteorder     "little"
 *     archive/data/0 ...    the elements of each tensor, dense
 *     archive/version       "3\n"
 */
#ifndef CLD_IO_TORCH_WRITE_H
#define CLD_IO_TORCH_WRITE_H

#include "runtime/io/safetensors.h" /* cld_named_tensor */

/* In the order given; names differ. Of any layout, strides and device. Written as file.h says. */
cld_status cld_torch_save(const char *path, const cld_named_tensor *tensors, size_t count);

/* detectron2's model file: a pickle of {"model": {name: NumPy array}, "__author__": author, "matching_heuristics": True}. The
 * last has detectron2 match the names by their ends. Protocol 3, by NumPy's old name of its functions, which new ones
 * know too. */
cld_status cld_detectron2_save(const char *path, const cld_named_tensor *tensors, size_t count,
                               const char *author);

#endif
