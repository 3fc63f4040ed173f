/* Reads PyTorch's files (.pth and the like), as torch.save writes them, without running code.
 *
 *   zip      since PyTorch 1.6: a zip archive with NAME/data.pkl, NAME/byteorder, and NAME/data/KEY for each storage
 *   legacy   before that: five pickles in a row (a magic number, a protocol number, the writing system, the value, the
 *            storages' keys), then for each key the number of its elements (i64) and the elements, little-endian
 *   pickle   a plain pickle of plain values and NumPy arrays, such as detectron2's model files
 *
 * pickle.h reads the pickle and calls nothing. Here its objects are interpreted as PyTorch's: tensors, parameters and
 * sizes. An object of any other class stays an object with its name, its arguments and its state.
 *
 * Nothing is trusted. All storages that the value refers to are read when the file is opened, after their claimed sizes
 * have been checked against the file. Tensors are views of them, so they share memory as they did in PyTorch, and
 * memory is in proportion to the file's size, whatever it claims. A dtype that is none of ours becomes one that holds
 * its values (numbers.h). A tensor that we cannot represent (complex, quantised, 8-bit floats, nine dimensions) stays
 * an object.
 */
#ifndef CLD_IO_TORCH_FILE_H
#define CLD_IO_TORCH_FILE_H

#include "runtime/io/pickle.h"
#include "runtime/tensor/tensor.h"

typedef enum cld_torch_format { CLD_TORCH_ZIP, CLD_TORCH_LEGACY, CLD_TORCH_PICKLE } cld_torch_format;

typedef struct cld_torch_file cld_torch_file;

/* NULL on failure. Every error names the file and what is wrong with it. */
cld_torch_file *cld_torch_open(const char *path);
void cld_torch_close(cld_torch_file *f); /* NULL is fine; tensors stay */

cld_torch_format cld_torch_format_of(const cld_torch_file *f);
cld_pickle *cld_torch_pickle(cld_torch_file *f);

/* Interprets value *i. For a tensor, parameter, storage (1-d) or NumPy array, *tensor becomes a new tensor. For a
 * wrapper such as torch.Size, *i becomes the value inside it. Anything else stays as it is. Damage, such as a tensor
 * outside its storage, is an error. */
cld_status cld_torch_read(cld_torch_file *f, uint32_t *i, cld_tensor **tensor);

#endif
