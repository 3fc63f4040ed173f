/* Safetensors files: named tensors and a string-to-string table of metadata.
 *
 *     8 bytes   n, little-endian
 *     n bytes   JSON: {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3],
 *               "data_offsets": [begin, end]}, ...}; padded with spaces to a multiple of 8
 *     the rest  the tensors' bytes, dense row-major little-endian; offsets count from here, without gap or overlap
 *
 * The reader believes nothing: lengths, names, dtypes, shapes and offsets are checked against each other and against
 * the file's size before a tensor is made, and any damage is one error that names the file and what is wrong. The
 * writer is deterministic: wide dtypes first (so that every tensor is aligned), names in bytewise order.
 */
#ifndef CLD_IO_SAFETENSORS_H
#define CLD_IO_SAFETENSORS_H

#include "runtime/io/file.h"
#include "runtime/tensor/tensor.h"

typedef struct cld_safetensors_entry {
    char *name;
    cld_dtype dtype;
    int ndim;
    int64_t shape[CLD_MAX_DIMS];
    uint64_t begin, end; /* in the data section */
} cld_safetensors_entry;

typedef struct cld_metadata {
    char *key, *value;
} cld_metadata;

/* An open file whose header has been read and checked. */
typedef struct cld_safetensors {
    cld_reader reader;
    uint64_t data_start;
    cld_safetensors_entry *entries; /* in the order of their data */
    size_t count;
    cld_metadata *metadata; /* in bytewise order of the keys */
    size_t metadata_count;
} cld_safetensors;

/* NULL with CLD_IO where the file is not what the format says. */
cld_safetensors *cld_safetensors_open(const char *path);
/* The tensor of entry i, read straight into its storage on the CPU. */
cld_tensor *cld_safetensors_read(cld_safetensors *file, size_t i);
void cld_safetensors_close(cld_safetensors *file); /* NULL is fine */

typedef struct cld_named_tensor {
    const char *name;
    cld_tensor *tensor; /* any layout, strides and device */
} cld_named_tensor;

/* Sorts both lists in place; names must differ. Written as file.h says: the old file stays until the new one
 * is on the disk. Beside the tensors it needs one copy of the largest that is not dense on the CPU. */
cld_status cld_safetensors_save(const char *path, cld_named_tensor *tensors, size_t count,
                                cld_metadata *metadata, size_t metadata_count);

/* A dtype as the file spells it: "F32". */
const char *cld_safetensors_dtype(cld_dtype dtype);

/* For qsort: metadata in bytewise order of the keys. */
int cld__by_key(const void *a, const void *b);

#endif
