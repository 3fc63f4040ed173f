/* Numbers as the files of others store them.
 *
 * A type that no dtype here is becomes the nearest that holds all its values: i8, i16 and u16 i32; u32 i64; u64 i64 as
 * well, if its values fit. Bytes in the other order are turned round.
 */
#ifndef CLD_IO_NUMBERS_H
#define CLD_IO_NUMBERS_H

#include "runtime/io/file.h"
#include "runtime/tensor/tensor.h"

typedef struct cld_number_type {
    char kind; /* f, i, u, or b for a byte that is 0 or 1 */
    uint8_t bytes;
    bool big_endian;
    cld_dtype dtype;  /* what it becomes; at least as wide */
    const char *name; /* as its format spells it */
} cld_number_type;

/* Dense row-major numbers that lie at `offset` of the file, as a tensor on the cpu. CLD_UNSUPPORTED, in a sentence
 * without the path, if a u64 is beyond i64. The caller has checked that the file holds that many. */
cld_tensor *cld_read_numbers(cld_reader *r, uint64_t offset, cld_number_type type, int ndim,
                             const int64_t *shape);

/* The same in two steps, for numbers that come from elsewhere: a tensor, and where in it their bytes are to be put; then
 * what the bytes become. */
cld_tensor *cld_numbers_new(cld_number_type type, int ndim, const int64_t *shape, void **bytes);
cld_status cld_numbers_convert(cld_tensor *t, cld_number_type type);

#endif
