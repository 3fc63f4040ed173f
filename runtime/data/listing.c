/* The content of a listing, and queries on it. listing_walk.c makes one from a folder. */
#define _GNU_SOURCE
#include "runtime/data/listing.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FOR(l, list, count)                                                                             \
    cld_grow((void **)&(l)->list, &(l)->room.list, (size_t)(count), sizeof *(l)->list)

cld_status cld__listing_add(cld_listing *l, uint64_t name, uint32_t folder, int64_t label) {
    CLD_TRY(ROOM_FOR(l, labels, l->count + 1));
    CLD_TRY(ROOM_FOR(l, names, l->count + 1));
    CLD_TRY(ROOM_FOR(l, folder_of, l->count + 1));
    l->labels[l->count] = label;
    l->names[l->count] = name;
    l->folder_of[l->count] = folder;
    l->count++;
    return CLD_OK;
}

cld_status cld__listing_add_folder(cld_listing *l, uint64_t path) {
    if (l->folder_count == UINT32_MAX) return cld_fail(CLD_UNSUPPORTED, "%s: too many folders", l->root);
    CLD_TRY(ROOM_FOR(l, folders, l->folder_count + 1));
    l->folders[l->folder_count++] = path;
    return CLD_OK;
}

cld_status cld__listing_add_class(cld_listing *l, uint64_t name) {
    CLD_TRY(ROOM_FOR(l, class_names, l->classes + 1));
    l->class_names[l->classes++] = name;
    return CLD_OK;
}

cld_listing *cld_listing_retain(cld_listing *l) {
    atomic_fetch_add(&l->others, 1);
    return l;
}

void cld_listing_free(cld_listing *l) {
    if (!l || atomic_fetch_sub(&l->others, 1) > 0) return;
    free(l->root);
    free(l->labels);
    free(l->names);
    free(l->folder_of);
    free(l->members);
    free(l->folders);
    free(l->class_names);
    cld_strings_free(&l->text);
    free(l);
}

size_t cld_listing_path(const cld_listing *l, int64_t i, char *out, size_t size) {
    const char *folder = l->text.bytes + l->folders[l->folder_of[i]];
    int length =
        snprintf(out, size, "%s/%s%s%s", l->root, folder, *folder ? "/" : "", l->text.bytes + l->names[i]);
    return length < 0 ? 0 : (size_t)length;
}

/* FNV-1a (Fowler, Noll and Vo) over the bytes, including the terminating zero. */
static uint64_t digest_text(uint64_t digest, const char *text) {
    do digest = (digest ^ (uint8_t)*text) * 0x100000001b3u;
    while (*text++);
    return digest;
}

uint64_t cld_listing_digest(const cld_listing *l) {
    uint64_t digest = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < l->count; i++) {
        digest = digest_text(digest, l->text.bytes + l->folders[l->folder_of[i]]);
        digest = digest_text(digest, l->text.bytes + l->names[i]);
        digest = (digest ^ (uint64_t)l->labels[i]) * 0x100000001b3u;
    }
    return digest;
}

const char *cld_listing_class_name(const cld_listing *l, int64_t c) {
    return l->text.bytes + l->class_names[c];
}

cld_status cld_listing_check_same_classes(const cld_listing *train, const cld_listing *test) {
    if (train->classes == 0 && test->classes == 0) return CLD_OK;
    for (int64_t a = 0, b = 0; a < train->classes || b < test->classes; a++, b++) {
        const char *x = a < train->classes ? cld_listing_class_name(train, a) : NULL;
        const char *y = b < test->classes ? cld_listing_class_name(test, b) : NULL;
        int order = !x ? 1 : !y ? -1 : strcmp(x, y);
        if (order != 0)
            return cld_fail(
                CLD_IO, "the classes of '%.200s' (%lld) and '%.200s' (%lld) differ: '%.200s' is only in %s",
                train->root, (long long)train->classes, test->root, (long long)test->classes,
                order < 0 ? x : y, order < 0 ? "the first" : "the second");
    }
    return CLD_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

cld_status cld__listing_fail_empty(const cld_listing *l, const char *what) {
    char kinds[128];
    cld_unreadable_text(kinds, sizeof kinds, l->unreadable);
    return cld_fail(CLD_IO, "%.300s: no images in %s; .jpg .jpeg .png .ppm .pgm are read%s%s", l->root, what,
                    *kinds ? "; left out: " : "", kinds);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

const char **cld__listing_wanted(const cld_listing_options *o) {
    const char **wanted = malloc((o->class_count + 1) * sizeof *wanted);
    if (!wanted) return cld_fail_null(CLD_NOMEM, "out of memory for a list of classes");
    memcpy(wanted, o->classes, o->class_count * sizeof *wanted);
    if (o->class_count) qsort(wanted, o->class_count, sizeof *wanted, by_text);
    for (size_t i = 0; i < o->class_count; i++) {
        const char *problem = !*wanted[i]                                           ? "is empty"
                              : i > 0 && strcmp(wanted[i - 1], wanted[i]) == 0      ? "is listed twice"
                              : strchr(wanted[i], '/')                              ? "is not a folder's name"
                              : !strcmp(wanted[i], ".") || !strcmp(wanted[i], "..") ? "is not a folder's name"
                                                                                    : NULL;
        if (!problem) continue;
        cld_fail(CLD_INVALID, "the list of classes: '%.200s' %s", wanted[i], problem);
        free(wanted);
        return NULL;
    }
    return wanted;
}

cld_status cld__listing_fail_absent(const char *root, const char *const *absent, size_t count) {
    char names[400] = "";
    size_t used = 0, shown = 0;
    for (; shown < count && shown < 5 && used < 300; shown++)
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%.60s", shown ? ", " : "", absent[shown]);
    return cld_fail(CLD_IO, "%.300s: no folders for %zu of the wanted classes: %s%s", root, count, names,
                    shown < count ? ", ..." : "");
}
