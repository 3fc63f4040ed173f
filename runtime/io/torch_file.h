/* PyTorch's files, .pth and the like: what torch.save writes, read without running code.
 *
 *   zip      since PyTorch 1.6: a zip archive with NAME/data.pkl, NAME/byteorder, and NAME/data/KEY for each storage
 *   legacy   before: five pickles in a row (a magic number, a protocol number, the writing system, the value, the storages'
 *            keys), and then for each key the number of its elements (i64) and these, little-endian
 *   pickle   a plain pickle of plain values and NumPy arrays, detectron2's model files say
 *
 * The pickle is read by pickle.h, which calls nothing. What its objects mean to PyTorch is found here: tensors, parameters
 * and sizes. Any other class stays an object with its name, its arguments and its state.
 *
 * Nothing is believed. All storages that the value refers to are read when the file is opened, after what they claim has
 * been compared with the file; tensors are views of them, and share what they shared. So memory is in proportion to the
 * file's bytes, whatever it claims. A dtype that no dtype here is becomes one that holds its values (numbers.h); a tensor
 * that cannot be had here (complex, quantised, 8-bit floats, nine dimensions) stays an object.
 */
#ifndef CLD_IO_TORCH_FILE_H
#define CLD_IO_TORCH_FILE_H

#include "runtime/io/pickle.h"
#include "runtime/tensor/tensor.h"

typedef enum cld_torch_format { CLD_TORCH_ZIP, CLD_TORCH_LEGACY, CLD_TORCH_PICKLE } cld_torch_format;

typedef struct cld_torch_file cld_torch_file;

/* NULL on failure; every error names the file, and what is wrong with it. */
cld_torch_file *cld_torch_open(const char *path);
void cld_torch_close(cld_torch_file *f); /* NULL is fine; tensors stay */

cld_torch_format cld_torch_format_of(const cld_torch_file *f);
cld_pickle *cld_torch_pickle(cld_torch_file *f);

/* What value *i is. A tensor, parameter, storage (1-d) or NumPy array: *tensor, a new one. What PyTorch wraps around
 * others, torch.Size say: *i becomes the value within. Anything else stays as it is. An error if it is damaged: a tensor
 * that lies outside its storage. */
cld_status cld_torch_read(cld_torch_file *f, uint32_t *i, cld_tensor **tensor);

#endif
