/* CIFAR's files: their names, the folder that holds them, and opening one. For cifar.c alone. */
#ifndef CLD_DATA_CIFAR_FILES_H
#define CLD_DATA_CIFAR_FILES_H

#include "runtime/data/cifar.h"
#include "runtime/io/file.h"

typedef struct cld_cifar_format {
    const char *title;      /* for messages, and the name of a parent folder */
    const char *name;       /* what recipes/download.lua calls it */
    const char *folder[3];  /* by layout */
    const char *archive[3]; /* where it comes from */
    const char *train[6], *test[2];
    const char *meta; /* python: the pickle with the names of the classes */
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

/* Looks where cifar.h says; what cannot be looked at is the error if nothing is found elsewhere. */
cld_status cld__cifar_find(cld_cifar_place *p, const char *root, cld_cifar_kind kind,
                           cld_cifar_layout layout);
/* "<folder>/<name>", with .bin in the binary layout. */
void cld__cifar_path(char path[4096], const cld_cifar_place *p, const char *name);
/* Whether anything has this name, be it a link that leads nowhere or one that cannot be looked at. */
bool cld__cifar_exists(const char *path);
/* On failure nothing is left to clean up. */
cld_status cld__cifar_open(cld_reader *r, const char *path, const cld_cifar_format *f);

#endif
