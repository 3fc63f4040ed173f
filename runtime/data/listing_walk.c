/* A folder's images. The contract is in listing.h.
 *
 * Folders are read one at a time from a list that grows as sub-folders are found, each by its path relative to the
 * root's descriptor. So there is no recursion, and two descriptors are enough at any depth. The folders of a class are
 * consecutive in the list, and are sorted once all are known, because a folder's place depends on its whole path.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/data/listing.h"

typedef struct folder {
    uint64_t path;        /* in the listing's text */
    int64_t first, count; /* its images, in the walk's list */
    uint32_t parent;      /* for the root: itself */
    dev_t device;
    ino_t inode;
} folder;

typedef struct walk {
    cld_listing *l;
    cld_strings *problems; /* NULL: each is an error */
    int root;              /* descriptor */
    folder *folders;
    uint64_t *images; /* names, in the listing's text */
    size_t folder_count, folder_room, image_room;
    int64_t image_count;
} walk;

static const char *text_at(const walk *w, uint64_t at) { return w->l->text.bytes + at; }

/* ---- one folder ---------------------------------------------------------------------------------------- */

/* "<root>/<folder>/<name>: <what>" */
static cld_status fail_at(const walk *w, const char *folder, const char *name, const char *what) {
    return cld_fail(CLD_IO, "%.300s%s%.200s%s%.300s: %s", w->l->root, *folder ? "/" : "", folder,
                    *name ? "/" : "", name, what);
}

/* Records a problem, if the caller tolerates problems. */
static cld_status bear(walk *w, cld_status status) {
    uint64_t at;
    if (status != CLD_IO || !w->problems) return status;
    return cld_strings_add(w->problems, cld_error_message(), strlen(cld_error_message()), &at);
}

static cld_status check_length(const walk *w, const char *folder, const char *name) {
    if (strlen(w->l->root) + strlen(folder) + strlen(name) + 3 <= PATH_MAX) return CLD_OK;
    return cld_fail(CLD_IO,
                    "%.200s/%.200s.../%.200s: the path is longer than the %d bytes that a path may have",
                    w->l->root, folder, name, PATH_MAX - 1);
}

static cld_status add_folder(walk *w, uint32_t parent, const char *name) {
    char path[PATH_MAX];
    const char *above = text_at(w, w->folders[parent].path);
    CLD_TRY(check_length(w, above, name));
    int length = snprintf(path, sizeof path, "%s%s%s", above, *above ? "/" : "", name);
    if (w->folder_count == UINT32_MAX) return fail_at(w, "", "", "too many folders");
    CLD_TRY(cld_grow((void **)&w->folders, &w->folder_room, w->folder_count + 1, sizeof *w->folders));
    folder *f = &w->folders[w->folder_count];
    *f = (folder){.parent = parent};
    CLD_TRY(cld_strings_add(&w->l->text, path, (size_t)length, &f->path));
    w->folder_count++;
    return CLD_OK;
}

static cld_status add_image(walk *w, uint32_t in, const char *name) {
    const char *path = text_at(w, w->folders[in].path);
    CLD_TRY(check_length(w, path, name));
    if (!cld_is_utf8(name)) return fail_at(w, path, name, "the name is not UTF-8; rename the file");
    CLD_TRY(cld_grow((void **)&w->images, &w->image_room, (size_t)w->image_count + 1, sizeof *w->images));
    CLD_TRY(cld_strings_add(&w->l->text, name, strlen(name), &w->images[w->image_count]));
    w->image_count++;
    w->folders[in].count++;
    return CLD_OK;
}

/* The type of a link's target, or of a file whose type the directory entry does not give. */
static unsigned char look(int fd, const char *name) {
    struct stat facts;
    if (fstatat(fd, name, &facts, 0) != 0) return DT_UNKNOWN; /* errno says why */
    return S_ISDIR(facts.st_mode) ? DT_DIR : S_ISREG(facts.st_mode) ? DT_REG : DT_FIFO;
}

static cld_status add_entry(walk *w, uint32_t in, int fd, const struct dirent *entry) {
    unsigned char type = entry->d_type;
    const char *name = entry->d_name;
    if (type == DT_LNK || type == DT_UNKNOWN) type = look(fd, name);
    int reason = errno;
    if (type == DT_DIR) return add_folder(w, in, name);
    cld_image_kind kind = cld_image_kind_of(name);
    if (kind >= 0) w->l->unreadable[kind]++;
    if (kind != CLD_READABLE) return CLD_OK;
    const char *path = text_at(w, w->folders[in].path);
    if (type == DT_REG) return add_image(w, in, name);
    if (type != DT_UNKNOWN) return fail_at(w, path, name, "not a regular file");
    /* A link whose file is gone is listed, like a file that is deleted later: the reader finds out. */
    if (reason == ENOENT && !w->problems) return add_image(w, in, name);
    return fail_at(w, path, name, reason == ENOENT ? "a link whose target does not exist" : strerror(reason));
}

static cld_status check_loop(const walk *w, uint32_t in) {
    const folder *f = &w->folders[in];
    for (uint32_t at = in; w->folders[at].parent != at;) {
        at = w->folders[at].parent;
        if (w->folders[at].device != f->device || w->folders[at].inode != f->inode) continue;
        const char *above = text_at(w, w->folders[at].path);
        return cld_fail(CLD_IO, "%.200s/%.200s: a link back to '%.200s%s%.200s', a loop", w->l->root,
                        text_at(w, f->path), w->l->root, *above ? "/" : "", above);
    }
    return CLD_OK;
}

static int by_name(const void *a, const void *b, void *text) {
    return strcmp((const char *)text + *(const uint64_t *)a, (const char *)text + *(const uint64_t *)b);
}

/* Reads folder `in` of the list: adds its images, sorted, and appends its sub-folders to the list. */
static cld_status read_folder(walk *w, uint32_t in) {
    struct stat facts;
    if (cld_stop_requested()) return cld_fail(CLD_INTERRUPTED, "interrupted");
    const char *path = text_at(w, w->folders[in].path);
    int fd = openat(w->root, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 || fstat(fd, &facts) != 0 ? NULL : fdopendir(fd);
    if (!list) {
        cld_status status = fail_at(w, path, "", strerror(errno));
        if (fd >= 0) close(fd);
        return bear(w, status);
    }
    w->folders[in].device = facts.st_dev;
    w->folders[in].inode = facts.st_ino;
    w->folders[in].first = w->image_count;
    cld_status status = check_loop(w, in);
    if (status != CLD_OK) {
        closedir(list);
        return bear(w, status);
    }
    while (status == CLD_OK) {
        errno = 0;
        struct dirent *entry = readdir(list);
        if (!entry && errno) status = fail_at(w, text_at(w, w->folders[in].path), "", strerror(errno));
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        status = bear(w, add_entry(w, in, fd, entry));
    }
    closedir(list);
    const folder *f = &w->folders[in];
    if (status == CLD_OK && f->count)
        qsort_r(w->images + f->first, (size_t)f->count, sizeof *w->images, by_name, w->l->text.bytes);
    return status;
}

/* Reads everything in and below the folders of the list from `from` on. */
static cld_status read_from(walk *w, size_t from) {
    for (size_t f = from; f < w->folder_count; f++) CLD_TRY(read_folder(w, (uint32_t)f));
    return CLD_OK;
}

/* ---- into the listing ---------------------------------------------------------------------------------- */

static int by_path(const void *a, const void *b, void *text) {
    return strcmp((const char *)text + ((const folder *)a)->path,
                  (const char *)text + ((const folder *)b)->path);
}

static void sort_folders(walk *w, size_t from) {
    size_t count = w->folder_count - from;
    if (count) qsort_r(w->folders + from, count, sizeof *w->folders, by_path, w->l->text.bytes);
}

/* Moves the images of the folders from `from` on into the listing, in order, and drops those folders. */
static cld_status take(walk *w, size_t from, int64_t label) {
    cld_listing *l = w->l;
    sort_folders(w, from);
    for (const folder *f = w->folders + from; f < w->folders + w->folder_count; f++) {
        if (f->count == 0) continue;
        if (!cld_is_utf8(text_at(w, f->path))) {
            CLD_TRY(bear(w, fail_at(w, text_at(w, f->path), "", "the name is not UTF-8; rename the folder")));
            continue;
        }
        CLD_TRY(cld__listing_add_folder(l, f->path));
        for (int64_t i = f->first; i < f->first + f->count; i++)
            CLD_TRY(cld__listing_add(l, w->images[i], (uint32_t)(l->folder_count - 1), label));
    }
    w->folder_count = from;
    w->image_count = 0;
    return CLD_OK;
}

static cld_status take_plain(walk *w) {
    CLD_TRY(read_from(w, 1));
    CLD_TRY(take(w, 0, -1));
    return w->l->count ? CLD_OK : cld__listing_fail_empty(w->l, "it or its sub-folders");
}

/* The images lie at the top: checks that there are none below. */
static cld_status check_unmixed(walk *w) {
    sort_folders(w, 1);
    for (size_t f = 1; f < w->folder_count; f++) {
        CLD_TRY(read_folder(w, (uint32_t)f));
        const folder *at = &w->folders[f];
        if (at->count)
            return cld_fail(
                CLD_IO,
                "%.200s: there are images both at its top ('%.100s') and in sub-folders ('%.100s/%.100s'): "
                "are the sub-folders classes? Move the images at the top, or choose a layout: 'classes' "
                "leaves them out, 'plain' takes all images without classes",
                w->l->root, text_at(w, w->images[0]), text_at(w, at->path), text_at(w, w->images[at->first]));
    }
    return CLD_OK;
}

/* Keeps the wanted class folders, which are sorted. */
static cld_status choose(walk *w, const cld_listing_options *o) {
    const char **wanted = cld__listing_wanted(o);
    if (!wanted) return cld_error_code();
    size_t kept = 1, missing = 0;
    for (size_t i = 0, f = 1; i < o->class_count; i++) {
        while (f < w->folder_count && strcmp(text_at(w, w->folders[f].path), wanted[i]) < 0) f++;
        if (f < w->folder_count && strcmp(text_at(w, w->folders[f].path), wanted[i]) == 0)
            w->folders[kept++] = w->folders[f++];
        else
            wanted[missing++] = wanted[i];
    }
    w->folder_count = kept;
    cld_status status = missing ? cld__listing_fail_absent(w->l->root, wanted, missing) : CLD_OK;
    free(wanted);
    return status;
}

static cld_status fail_empty_classes(walk *w, const uint64_t *empty, size_t count) {
    char names[300] = "", what[420];
    size_t used = 0, shown = 0;
    for (; shown < count && shown < 3; shown++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s'%.80s'", shown ? ", " : "",
                                 text_at(w, empty[shown]));
    snprintf(what, sizeof what, "%zu of the %lld class folders: %s%s", count, (long long)w->l->classes, names,
             shown < count ? ", ..." : "");
    return cld__listing_fail_empty(w->l, what);
}

/* Called when the root's sub-folders are in the list. */
static cld_status take_classes(walk *w, const cld_listing_options *o) {
    cld_listing *l = w->l;
    w->image_count = 0; /* of the root itself */
    sort_folders(w, 1);
    if (o->classes) CLD_TRY(choose(w, o));
    size_t count = w->folder_count - 1, empty_count = 0;
    if (count == 0) return cld__listing_fail_empty(l, "it, and no sub-folders");
    uint64_t *names = malloc(2 * count * sizeof *names), *empty = names + count;
    if (!names) return cld_fail(CLD_NOMEM, "out of memory for %zu classes", count);
    for (size_t c = 0; c < count; c++) names[c] = w->folders[c + 1].path;
    w->folder_count = 1;
    cld_status status = CLD_OK;
    for (size_t c = 0; status == CLD_OK && c < count; c++) {
        int64_t before = l->count;
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%s", text_at(w, names[c])); /* the text moves */
        status = cld__listing_add_class(l, names[c]);
        if (status == CLD_OK) status = add_folder(w, 0, name);
        if (status == CLD_OK) status = read_from(w, 1);
        if (status == CLD_OK) status = take(w, 1, (int64_t)c);
        if (l->count == before) empty[empty_count++] = names[c];
    }
    if (status == CLD_OK && empty_count)
        status = l->count ? bear(w, fail_empty_classes(w, empty, empty_count))
                          : fail_empty_classes(w, empty, empty_count);
    free(names);
    return status;
}

static cld_status list(walk *w, const cld_listing_options *o) {
    if (o->classes && o->layout == CLD_LISTING_PLAIN)
        return cld_fail(CLD_INVALID, "%.300s: got a list of classes, but a layout without classes",
                        w->l->root);
    w->root = open(w->l->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->root < 0)
        return errno == ENOENT ? cld_fail(CLD_IO, "there is no folder '%.300s'", w->l->root)
                               : fail_at(w, "", "", strerror(errno));
    CLD_TRY(cld_grow((void **)&w->folders, &w->folder_room, 1, sizeof *w->folders));
    w->folders[0] = (folder){0};
    CLD_TRY(cld_strings_add(&w->l->text, "", 0, &w->folders[0].path));
    w->folder_count = 1;
    CLD_TRY(read_folder(w, 0));
    if (o->layout == CLD_LISTING_PLAIN) return take_plain(w);
    if (o->layout == CLD_LISTING_CLASSES || o->classes || w->image_count == 0) {
        if (w->folder_count == 1) return cld__listing_fail_empty(w->l, "it, and no sub-folders");
        return take_classes(w, o);
    }
    CLD_TRY(check_unmixed(w));
    return take(w, 0, -1);
}

/* Doubling has left up to half of each list unused; frees that. */
static void trim(cld_listing *l) {
    void *text = l->text.used ? realloc(l->text.bytes, l->text.used) : NULL;
    if (text) {
        l->text.bytes = text;
        l->text.room = l->text.used;
    }
}

cld_listing *cld_listing_new(const char *folder, const cld_listing_options *options) {
    static const cld_listing_options none = {0};
    cld_listing *l = calloc(1, sizeof *l);
    if (l) l->root = strdup(folder);
    if (!l || !l->root) {
        free(l);
        return cld_fail_null(CLD_NOMEM, "out of memory for the list of '%.300s'", folder);
    }
    for (size_t end = strlen(l->root); end > 1 && l->root[end - 1] == '/'; end--) l->root[end - 1] = '\0';
    walk w = {.l = l, .root = -1, .problems = options ? options->problems : NULL};
    cld_status status = list(&w, options ? options : &none);
    if (w.root >= 0) close(w.root);
    free(w.folders);
    free(w.images);
    if (status == CLD_OK) {
        trim(l);
        return l;
    }
    cld_listing_free(l);
    return NULL;
}

/* ---- splits -------------------------------------------------------------------------------------------- */

static bool is_folder(int at, const char *name, unsigned char type) {
    return type == DT_DIR || ((type == DT_LNK || type == DT_UNKNOWN) && look(at, name) == DT_DIR);
}

char *cld_find_split(const char *root, cld_split split) {
    static const char *const names[] = {
        [CLD_SPLIT_TRAIN] = "train", [CLD_SPLIT_TEST] = "test", [CLD_SPLIT_VAL] = "val"};
    bool there[3] = {false};
    int found = 0, others = 0;
    DIR *list = opendir(root);
    if (!list && errno == ENOENT) return cld_fail_null(CLD_IO, "there is no folder '%.300s'", root);
    if (!list) return cld_fail_null(CLD_IO, "%.300s: %s", root, strerror(errno));
    for (struct dirent *entry; (entry = readdir(list));) {
        int s = 0;
        while (s < 3 && strcmp(entry->d_name, names[s]) != 0) s++;
        if (s == 3 && (others || entry->d_name[0] == '.')) continue;
        if (!is_folder(dirfd(list), entry->d_name, entry->d_type)) continue;
        if (s < 3) there[s] = true;
        *(s < 3 ? &found : &others) += 1;
    }
    closedir(list);
    bool are_splits = found >= 2 || (found == 1 && others == 0);
    if (are_splits && split == CLD_SPLIT_TEST && !there[CLD_SPLIT_TEST]) split = CLD_SPLIT_VAL;
    if (!are_splits && split != CLD_SPLIT_TRAIN)
        return cld_fail_null(CLD_IO,
                             "%.300s: no %s split: it has no folder train/ with test/ or val/ beside it",
                             root, names[split]);
    if (are_splits && !there[split])
        return cld_fail_null(CLD_IO, "%.300s: no %s split: of train/, test/ and val/ it has%s%s%s", root,
                             names[split], there[CLD_SPLIT_TRAIN] ? " train/" : "",
                             there[CLD_SPLIT_TEST] ? " test/" : "", there[CLD_SPLIT_VAL] ? " val/" : "");
    char *folder = NULL;
    if ((are_splits ? asprintf(&folder, "%s/%s", root, names[split]) : asprintf(&folder, "%s", root)) < 0)
        return cld_fail_null(CLD_NOMEM, "out of memory for the path '%.300s'", root);
    return folder;
}
