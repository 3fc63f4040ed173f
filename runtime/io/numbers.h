/* Numbers as the files of others store them.
 *
 * A type that no dtype here is becomes the nearest that holds all its values: i8, i16 and u16 i32; u32 i64; u64 i64 as
 * well, if its values fit; an 8-bit float f32. Bytes in the other order are turned round.
 *
 * Such a tensor remembers the type (cld_tensor.stored), so that whoever writes it, unchanged, writes what came: to be read
 * and saved loses nothing. Views do not have it by themselves; a reader that gives away a view of what it read hands it on.
 */
#ifndef CLD_IO_NUMBERS_H
#define CLD_IO_NUMBERS_H

#include "runtime/io/file.h"
#include "runtime/tensor/tensor.h"

typedef struct cld_number_type {
    char kind; /* f, i, u, b for a byte that is 0 or 1, or one of float8.h's */
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

/* The view of `whole`, or its copy, is what was read. */
void cld_numbers_hand_on(cld_tensor *view, const cld_tensor *whole);

/* What t came as, kind and bytes; false if that is of no interest any more, or never was. */
bool cld_numbers_came_as(const cld_tensor *t, char *kind, uint8_t *bytes);

/* The elements of t, of any layout, strides and device, row-major and little-endian as numbers of the type. An integer type
 * takes whole numbers of its range, a float one the nearest value (cld_numbers_came_as's type: the same bytes). The error
 * is a sentence without the path. */
cld_status cld_write_numbers(cld_writer *w, cld_tensor *t, cld_number_type type);

/* The same, given away piece by piece. */
typedef cld_status cld_take_bytes(void *to, const void *data, size_t bytes);
cld_status cld_give_numbers(cld_take_bytes *take, void *to, cld_tensor *t, cld_number_type type);

#endif
