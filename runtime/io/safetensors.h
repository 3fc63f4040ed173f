/* Safetensors files: named tensors and a string-to-string table of metadata.
 *
 *     8 bytes   n, little-endian
 *     n bytes   JSON: {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3],
 *               "data_offsets": [begin, end]}, ...}; padded with spaces to a multiple of 8
 *     the rest  the tensors' bytes, dense row-major little-endian; offsets count from here, without gap or overlap
 *
 * The reader trusts nothing: lengths, names, dtypes, shapes and offsets are checked against each other and against the
 * file's size before a tensor is made, and any damage is an error that names the file and what is wrong. Its time and
 * memory are in proportion to the header's size, whatever the header holds. A dtype that is none of ours becomes one
 * that holds its values (numbers.h; BOOL becomes u8), and is written as it was read. A tensor that we cannot represent
 * (F4, C64, nine dimensions) stays in the file, and the others are read. The writer is deterministic: wide dtypes first
 * (so that every tensor is aligned), then names in bytewise order.
 */
#ifndef CLD_IO_SAFETENSORS_H
#define CLD_IO_SAFETENSORS_H

#include "runtime/io/file.h"
#include "runtime/io/json_scan.h"
#include "runtime/io/numbers.h"
#include "runtime/tensor/tensor.h"

typedef struct cld_safetensors_entry {
    cld_text name;
    cld_number_type type; /* 0 bytes if none of our dtypes can hold it */
    uint32_t ndim;        /* may be more than CLD_MAX_DIMS */
    bool too_large;       /* the shape does not fit 63 bits, even if the tensor is empty */
    int64_t shape[CLD_MAX_DIMS];
    uint64_t begin, end; /* in the data section */
} cld_safetensors_entry;

typedef struct cld_safetensors_fact {
    cld_text key, value;
} cld_safetensors_fact;

/* An open file whose header has been read and checked. */
typedef struct cld_safetensors {
    cld_reader reader;
    uint64_t data_start;
    char *header;                   /* holds every name, key and value */
    cld_safetensors_entry *entries; /* in the order of their data */
    size_t count, room;
    cld_safetensors_fact *metadata; /* in bytewise order of the keys */
    size_t metadata_count, metadata_room;
} cld_safetensors;

/* NULL with CLD_IO if the file breaks the format's rules. */
cld_safetensors *cld_safetensors_open(const char *path);
/* The tensor of entry i, read straight into its storage on the CPU. CLD_UNSUPPORTED, with a message without the path or
 * the name, if we cannot represent it. */
cld_tensor *cld_safetensors_read(cld_safetensors *file, size_t i);
void cld_safetensors_close(cld_safetensors *file); /* NULL is fine */

/* ---- writing ---- */

typedef struct cld_metadata {
    char *key, *value;
} cld_metadata;

typedef struct cld_named_tensor {
    const char *name;
    cld_tensor *tensor;      /* any layout, strides and device */
    const char *type;        /* "I8", ...; NULL: as it was read, if it came from a file, else its dtype's */
    cld_number_type written; /* found by the writer */
} cld_named_tensor;

/* Sorts both lists in place; names must differ. As file.h says, the old file stays until the new one is on the
 * disk. Besides the tensors it needs memory for one copy of the largest one that is not dense on the CPU. */
cld_status cld_safetensors_write(cld_writer *w, cld_named_tensor *tensors, size_t count,
                                 cld_metadata *metadata, size_t metadata_count); /* ends the writer */
cld_status cld_safetensors_save(const char *path, cld_named_tensor *tensors, size_t count,
                                cld_metadata *metadata, size_t metadata_count);

/* The type with the format's name for it, such as "F32"; NULL if there is none, or if we do not write it (C64, F4,
 * ...). */
const cld_number_type *cld_safetensors_type(const char *name);
/* The type that t was read as from a file, else its dtype's. */
const cld_number_type *cld_safetensors_type_of(const cld_tensor *t);

#endif
