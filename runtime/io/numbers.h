/* Numbers as other programs' files store them.
 *
 * A type that is none of our dtypes becomes the nearest one that holds all its values: i8, i16 and u16 become i32, u32
 * becomes i64, u64 becomes i64 too if its values fit, and an 8-bit float becomes f32. Big-endian bytes are swapped.
 *
 * Such a tensor remembers the type (cld_tensor.stored), so that an unchanged tensor is written as it was read: reading
 * and saving loses nothing. Views do not inherit the type; a reader that returns a view of what it read passes it on.
 */
#ifndef CLD_IO_NUMBERS_H
#define CLD_IO_NUMBERS_H

#include "runtime/io/file.h"
#include "runtime/tensor/tensor.h"

typedef struct cld_number_type {
    char kind; /* f, i, u; b for a byte that is 0 or 1; or a kind of float8.h */
    uint8_t bytes;
    bool big_endian;
    cld_dtype dtype;  /* what it becomes; at least as wide */
    const char *name; /* as its format spells it */
} cld_number_type;

/* Reads dense row-major numbers at `offset` of the file into a tensor on the cpu. CLD_UNSUPPORTED, with a message
 * without the path, if a u64 does not fit i64. The caller has checked that the file holds that many. */
cld_tensor *cld_read_numbers(cld_reader *r, uint64_t offset, cld_number_type type, int ndim,
                             const int64_t *shape);

/* The same in two steps, for numbers from another source: a tensor and the place in it for their bytes; then, once the
 * bytes are there, their conversion. */
cld_tensor *cld_numbers_new(cld_number_type type, int ndim, const int64_t *shape, void **bytes);
cld_status cld_numbers_convert(cld_tensor *t, cld_number_type type);

/* Marks a view or copy of `whole` as read from the file too. */
void cld_numbers_hand_on(cld_tensor *view, const cld_tensor *whole);

/* The kind and bytes that t was read as; false if there are none, or if t has been changed since. */
bool cld_numbers_came_as(const cld_tensor *t, char *kind, uint8_t *bytes);

/* Writes the elements of t, of any layout, strides and device, row-major and little-endian as numbers of the type. For
 * an integer type they must be whole numbers in its range; for a float type the nearest value is written (for
 * cld_numbers_came_as's type, the same bytes). The error message does not name the path. */
cld_status cld_write_numbers(cld_writer *w, cld_tensor *t, cld_number_type type);

/* The same, handed to `take` piece by piece. */
typedef cld_status cld_take_bytes(void *to, const void *data, size_t bytes);
cld_status cld_give_numbers(cld_take_bytes *take, void *to, cld_tensor *t, cld_number_type type);

#endif
