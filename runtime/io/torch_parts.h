/* The insides of torch_file.h, shared by torch_file.c (the two formats), torch_storage.c (storages) and torch_tensor.c
 * (tensors). */
#ifndef CLD_IO_TORCH_PARTS_H
#define CLD_IO_TORCH_PARTS_H

#include "runtime/io/numbers.h"
#include "runtime/io/torch_file.h"
#include "runtime/io/zip.h"

/* An element type, as PyTorch names it. */
typedef struct cld__torch_type {
    const char *storage, *dtype; /* "FloatStorage", "float32"; NULL if there is none */
    uint8_t bytes;
    cld_number_type numbers; /* 0 bytes if none of our dtypes can hold it */
} cld__torch_type;

typedef struct cld__torch_storage {
    char *key;
    const cld__torch_type *type;  /* NULL: unknown, so it is not read */
    uint64_t count;               /* elements */
    bool there;                   /* the file holds it */
    cld_tensor *tensor;           /* 1-d; NULL: not read, or none of our dtypes can hold it */
    const cld__torch_type *again; /* the type that a tensor has given to an untyped storage, */
    cld_tensor *typed;            /* and the elements of that type */
} cld__torch_storage;

/* A persistent id of a storage, or of a part of one. */
typedef struct cld__torch_reference {
    uint32_t value;
    size_t storage;
    uint64_t begin, count;
} cld__torch_reference;

struct cld_torch_file {
    cld_reader reader;
    cld_torch_format format;
    bool big_endian;
    uint8_t *data; /* zip: the content of data.pkl */
    size_t data_bytes;
    char *prefix; /* zip: the start of data.pkl's name */
    cld_pickle *pickle;
    cld__torch_storage *storages; /* in bytewise order of their keys */
    size_t storage_count;
    cld__torch_reference *references; /* in the order of their values */
    size_t reference_count;
    uint64_t array_bytes; /* of NumPy arrays so far */
};

/* The type with this dtype name; NULL if it is unknown. */
const cld__torch_type *cld__torch_dtype(const char *name);

/* Finds the storages that the pickle refers to, without reading them. */
cld_status cld__torch_find_storages(cld_torch_file *f);
/* NULL if there is none with that key. */
cld__torch_storage *cld__torch_storage_of(cld_torch_file *f, const char *key);
uint64_t cld__torch_storage_bytes(const cld__torch_storage *s);
/* NULL if the value is not a reference to a storage. */
const cld__torch_reference *cld__torch_reference_to(const cld_torch_file *f, uint32_t value);
/* Reads a storage: its bytes are at `offset` of the file, or are the zip's current member. */
cld_status cld__torch_read_storage(cld_torch_file *f, cld__torch_storage *s, uint64_t offset, cld_zip *zip);
void cld__torch_free_storages(cld_torch_file *f);

#endif
