/* Shared by blas.c and dnn.c: a table from the shape of a call to what was chosen for it, kept as long as the process
 * runs, and words for a message.
 *
 * An entry begins with a cld_choice. Its key is an array of whole numbers, all of which are compared, so padding never
 * is. There is no lock, because there is one stream and only one thread at a time calls the device.
 */
#ifndef CLD_CUDA_CHOICE_H
#define CLD_CUDA_CHOICE_H

#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

enum { CLD_CHOICE_KEY = 24, CLD_CHOICE_BUCKETS = 256 };

typedef struct cld_choice {
    struct cld_choice *next;
    int64_t key[CLD_CHOICE_KEY]; /* 0 beyond those that a caller uses */
} cld_choice;

typedef struct cld_choices {
    cld_choice *buckets[CLD_CHOICE_BUCKETS];
} cld_choices;

static inline cld_choice **cld_choice_bucket(cld_choices *table, const int64_t *key) {
    uint64_t hash = 0;
    for (int i = 0; i < CLD_CHOICE_KEY; i++) hash = (hash ^ (uint64_t)key[i]) * 0x9e3779b97f4a7c15u;
    return &table->buckets[hash >> 56];
}

/* NULL if there is none. */
static inline cld_choice *cld_choice_find(cld_choices *table, const int64_t *key) {
    cld_choice *entry = *cld_choice_bucket(table, key);
    while (entry && memcmp(entry->key, key, sizeof entry->key) != 0) entry = entry->next;
    return entry;
}

static inline void cld_choice_keep(cld_choices *table, const int64_t *key, cld_choice *entry) {
    cld_choice **bucket = cld_choice_bucket(table, key);
    memcpy(entry->key, key, sizeof entry->key);
    entry->next = *bucket;
    *bucket = entry;
}

/* The alignment of a pointer, a power of two in bytes, at most `most`. */
static inline uint32_t cld_alignment(const void *data, uint32_t most) {
    uintptr_t address = (uintptr_t)data | most;
    return (uint32_t)(address & -address);
}

static inline const char *cld_dtype_text(cld_dtype dtype) {
    static const char *const texts[] = {
#define CLD_TEXT(name, text, bytes) text,
        CLD_DTYPES(CLD_TEXT)
#undef CLD_TEXT
    };
    return texts[dtype];
}

#endif
