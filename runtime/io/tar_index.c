/* Keeping the index of an archive. The contract is in tar.h.
 *
 * An index is never trusted: every number in it is checked against the archive's size, and an inconsistent index is
 * made anew.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/io/safetensors.h"
#include "runtime/io/tar.h"
#include "runtime/tensor/device.h"

#define SUFFIX ".index.safetensors"
#define FORMAT "cldlua tar index 1"

/* ---- places -------------------------------------------------------------------------------------------- */

static char *beside(const char *path) {
    char *index;
    return asprintf(&index, "%s" SUFFIX, path) < 0 ? NULL : index;
}

/* FNV-1a, so that archives of the same name in different folders have different indices. */
static uint64_t hash(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

/* Our folder in the user's cache; NULL if the environment names no cache. */
static char *cache_folder(void) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder = NULL;
    int length = cache && *cache == '/' ? asprintf(&folder, "%s/cldlua", cache)
                 : home && *home == '/' ? asprintf(&folder, "%s/.cache/cldlua", home)
                                        : -1;
    return length < 0 ? NULL : folder;
}

static char *in_cache(const char *path) {
    char *index = NULL, *folder = cache_folder(), *whole = realpath(path, NULL);
    if (folder && whole) {
        const char *name = strrchr(whole, '/') + 1;
        if (asprintf(&index, "%s/%.100s.%016" PRIx64 SUFFIX, folder, name, hash(whole)) < 0) index = NULL;
    }
    free(folder);
    free(whole);
    return index;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool is_fact(const cld_safetensors *f, const char *key, const char *value) {
    for (size_t i = 0; i < f->metadata_count; i++)
        if (f->metadata[i].key.length == strlen(key) && strcmp(f->metadata[i].key.data, key) == 0)
            return f->metadata[i].value.length == strlen(value) &&
                   strcmp(f->metadata[i].value.data, value) == 0;
    return false;
}

/* The list of that name, or NULL if there is none of this dtype. */
static cld_tensor *read_list(cld_safetensors *f, const char *name, cld_dtype dtype) {
    for (size_t i = 0; i < f->count; i++) {
        const cld_safetensors_entry *e = &f->entries[i];
        if (e->name.length != strlen(name) || strcmp(e->name.data, name) != 0) continue;
        return e->ndim == 1 && e->type.dtype == dtype && e->type.bytes > 0 ? cld_safetensors_read(f, i)
                                                                           : NULL;
    }
    return NULL;
}

/* A copy of the list, which the caller frees. */
static void *copy_list(const cld_tensor *t, size_t element) {
    size_t bytes = (size_t)t->a.shape[0] * element;
    void *copy = malloc(bytes + 1);
    if (copy) memcpy(copy, t->a.data, bytes);
    return copy;
}

/* Checks that the files are inside the archive, and that the names follow each other, each with a zero only at its
 * end. */
static bool holds_together(const cld_tar *t) {
    size_t at = 0;
    for (int64_t i = 0; i < t->count; i++) {
        if (t->offsets[i] < 512 || t->sizes[i] < 0 || (uint64_t)t->offsets[i] > t->bytes ||
            (uint64_t)t->sizes[i] > t->bytes - (uint64_t)t->offsets[i])
            return false;
        if ((uint64_t)t->names[i] != at || at >= t->text.used) return false;
        const char *name = t->text.bytes + at, *end = memchr(name, 0, t->text.used - at);
        if (!end || end == name || end - name >= 2 * PATH_MAX || *name == '/') return false;
        at += (size_t)(end - name) + 1;
    }
    return at == t->text.used;
}

static cld_tar *from_lists(const char *path, cld_tensor *offsets, cld_tensor *sizes, cld_tensor *names,
                           cld_tensor *name_offsets) {
    if (!offsets || !sizes || !names || !name_offsets) return NULL;
    int64_t count = offsets->a.shape[0];
    if (sizes->a.shape[0] != count || name_offsets->a.shape[0] != count) return NULL;
    cld_tar *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->count = count;
    t->path = strdup(path);
    t->offsets = copy_list(offsets, sizeof *t->offsets);
    t->sizes = copy_list(sizes, sizeof *t->sizes);
    t->names = copy_list(name_offsets, sizeof *t->names);
    t->text.bytes = copy_list(names, 1);
    t->text.used = t->text.room = (size_t)names->a.shape[0];
    if (t->path && t->offsets && t->sizes && t->names && t->text.bytes) return t;
    cld_tar_free(t);
    return NULL;
}

static void archive_facts(const struct stat *facts, char bytes[32], char mtime[64]) {
    snprintf(bytes, 32, "%lld", (long long)facts->st_size);
    snprintf(mtime, 64, "%lld.%09ld", (long long)facts->st_mtim.tv_sec, facts->st_mtim.tv_nsec);
}

/* NULL, without an error, if this is not an index of exactly this archive. */
static cld_tar *read_index(const char *path, const struct stat *facts, const char *index) {
    char bytes[32], mtime[64];
    archive_facts(facts, bytes, mtime);
    cld_safetensors *f = index ? cld_safetensors_open(index) : NULL;
    if (!f) return NULL;
    cld_tar *t = NULL;
    if (is_fact(f, "format", FORMAT) && is_fact(f, "archive_bytes", bytes) &&
        is_fact(f, "archive_mtime", mtime)) {
        CLD_AUTO cld_tensor *offsets = read_list(f, "offsets", CLD_I64);
        CLD_AUTO cld_tensor *sizes = read_list(f, "sizes", CLD_I64);
        CLD_AUTO cld_tensor *names = read_list(f, "names", CLD_U8);
        CLD_AUTO cld_tensor *name_offsets = read_list(f, "name_offsets", CLD_I64);
        t = from_lists(path, offsets, sizes, names, name_offsets);
    }
    cld_safetensors_close(f);
    if (!t) return NULL;
    t->bytes = (uint64_t)facts->st_size;
    t->mtime = facts->st_mtim.tv_sec;
    t->mtime_nanoseconds = facts->st_mtim.tv_nsec;
    t->was_indexed = true;
    if (holds_together(t)) return t;
    cld_tar_free(t);
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static cld_tensor *new_list(cld_dtype dtype, int64_t count, const void *data, size_t element) {
    CLD_AUTO cld_tensor *t = cld_tensor_new(dtype, 1, &count, cld_cpu_backend());
    if (!t) return NULL;
    CLD_TRY_NULL(cld_tensor_from_host(t, data, (size_t)count * element));
    return cld_tensor_steal(&t);
}

static cld_status write_index(const cld_tar *t, const char *index) {
    char bytes[32], mtime[64];
    struct stat facts = {.st_size = (off_t)t->bytes, .st_mtim = {t->mtime, t->mtime_nanoseconds}};
    archive_facts(&facts, bytes, mtime);
    CLD_AUTO cld_tensor *offsets = new_list(CLD_I64, t->count, t->offsets, sizeof *t->offsets);
    CLD_AUTO cld_tensor *sizes = new_list(CLD_I64, t->count, t->sizes, sizeof *t->sizes);
    CLD_AUTO cld_tensor *names = new_list(CLD_U8, (int64_t)t->text.used, t->text.bytes, 1);
    CLD_AUTO cld_tensor *name_offsets = new_list(CLD_I64, t->count, t->names, sizeof *t->names);
    if (!offsets || !sizes || !names || !name_offsets) return cld_error_code();
    cld_named_tensor tensors[] = {
        {.name = "offsets", .tensor = offsets},
        {.name = "sizes", .tensor = sizes},
        {.name = "names", .tensor = names},
        {.name = "name_offsets", .tensor = name_offsets},
    };
    cld_metadata metadata[] = {{"format", FORMAT}, {"archive_bytes", bytes}, {"archive_mtime", mtime}};
    return cld_safetensors_save(index, tensors, 4, metadata, 3);
}

/* Writes the index to the first place that accepts it. Without one everything works, only slower the next time. */
static void keep(cld_tar *t, char **places) {
    for (int p = 0; p < 2 && !t->index; p++) {
        bool created;
        char *folder = p == 1 ? cache_folder() : NULL;
        if (!places[p] || (folder && cld_make_folder(folder, 0700, &created) != CLD_OK) ||
            write_index(t, places[p]) != CLD_OK) {
            if (places[p] && !t->problem) t->problem = strdup(cld_error_message());
        } else {
            t->index = places[p];
            places[p] = NULL;
        }
        free(folder);
    }
}

cld_tar *cld_tar_open(const char *path) {
    struct stat facts;
    char *places[] = {beside(path), in_cache(path)};
    cld_tar *t = NULL;
    for (int p = 0; p < 2 && !t && stat(path, &facts) == 0 && S_ISREG(facts.st_mode); p++) {
        t = read_index(path, &facts, places[p]);
        if (!t) continue;
        t->index = places[p];
        places[p] = NULL;
    }
    if (!t) {
        t = cld_tar_scan(path);
        if (t) keep(t, places);
    }
    free(places[0]);
    free(places[1]);
    return t;
}
