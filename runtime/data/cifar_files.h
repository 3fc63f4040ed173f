/* CIFAR's files: their names, finding their folder, and opening one. For cifar.c only. */
#ifndef CLD_DATA_CIFAR_FILES_H
#define CLD_DATA_CIFAR_FILES_H

#include "runtime/data/cifar.h"
#include "runtime/io/file.h"

typedef struct cld_cifar_format {
    const char *title;      /* for messages, and the name of a parent folder */
    const char *name;       /* its name in recipes/download.lua */
    const char *folder[3];  /* by layout */
    const char *archive[3]; /* the archive it is distributed in */
    const char *train[6], *test[2];
    const char *meta; /* python: the pickle with the class names */
    const char *meta_key;
    const char *meta_text;  /* binary: the same, one per line */
    const char *labels_key; /* python */
    int classes;
    int label_bytes, label_at; /* binary: bytes before the pixels; which of them is the label */
} cld_cifar_format;

typedef struct cld_cifar_place {
    const cld_cifar_format *format;
    cld_cifar_layout layout;
    char folder[3072];
} cld_cifar_place;

/* Looks in the places that cifar.h lists. If a place cannot be read and nothing is found elsewhere, that is the
 * error. */
cld_status cld__cifar_find(cld_cifar_place *p, const char *root, cld_cifar_kind kind,
                           cld_cifar_layout layout);
/* "<folder>/<name>", with .bin in the binary layout. */
void cld__cifar_path(char path[4096], const cld_cifar_place *p, const char *name);
/* Whether something has this name, even a dangling link or something that cannot be read. */
bool cld__cifar_exists(const char *path);
/* On failure nothing is left to clean up. */
cld_status cld__cifar_open(cld_reader *r, const char *path, const cld_cifar_format *f);

#endif
