/* Tables of numbers as text: one row per line, tabs between the columns. */
#ifndef CLD_IO_TSV_H
#define CLD_IO_TSV_H

#include "runtime/tensor/tensor.h"

/* Writes f32 (rows, columns), on any device, with as many digits (at most nine) as tell an f32 from all others. Values
 * that are not finite become nan, inf or -inf. An old file stays until the new one is complete. */
cld_status cld_tsv_save(const char *path, cld_tensor *table);

#endif
