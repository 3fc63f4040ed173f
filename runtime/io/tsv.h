/* Tables of numbers as text: a row a line, tabs between the columns. */
#ifndef CLD_IO_TSV_H
#define CLD_IO_TSV_H

#include "runtime/tensor/tensor.h"

/* f32 (rows, columns), on any device: with the nine digits that tell one f32 from all others, or less. What is not
 * finite is nan, inf or -inf. An old file stays until the new one is whole. */
cld_status cld_tsv_save(const char *path, cld_tensor *table);

#endif
