/* The images of an archive. The contract is in tar_listing.h. */
#define _GNU_SOURCE
#include "runtime/data/tar_listing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/file.h"

/* The largest label in a .cls, minus one: a hostile file may not ask for more names than that. */
#define MOST_CLASSES 1000000

/* An image, or a .cls beside one. */
typedef struct member {
    const char *path; /* below the requested folder */
    uint32_t class;   /* length of its class's name: up to the first slash */
    uint32_t folder;  /* length of its folder; 0: none */
    int64_t index;    /* in the archive's index */
} member;

typedef struct work {
    const cld_tar *t;
    cld_listing *l;
    member *images, *marks;
    size_t image_count, image_room, mark_count, mark_room;
} work;

static int by_bytes(const char *a, size_t a_length, const char *b, size_t b_length) {
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* As in a listing of the unpacked folder: class, folder, name; then the later member. */
static int by_place(const void *a, const void *b) {
    const member *x = a, *y = b;
    int order = by_bytes(x->path, x->class, y->path, y->class);
    if (!order) order = by_bytes(x->path, x->folder, y->path, y->folder);
    if (!order) order = strcmp(x->path + x->folder, y->path + y->folder);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* ---- which members ------------------------------------------------------------------------------------- */

static bool is_mark(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".cls") == 0;
}

static cld_status gather(work *w, const char *inside) {
    size_t prefix = inside ? strlen(inside) : 0;
    while (prefix && inside[prefix - 1] == '/') prefix--;
    for (int64_t i = 0; i < w->t->count; i++) {
        const char *path = cld_tar_name(w->t, i);
        if (prefix && (strncmp(path, inside, prefix) != 0 || path[prefix] != '/')) continue;
        path += prefix ? prefix + 1 : 0;
        const char *slash = strrchr(path, '/');
        cld_image_kind kind = cld_image_kind_of(slash ? slash + 1 : path);
        member m = {.path = path, .folder = slash ? (uint32_t)(slash - path) : 0, .index = i};
        if (kind >= 0) w->l->unreadable[kind]++;
        if (kind == CLD_READABLE) {
            if (!cld_is_utf8(path))
                return cld_fail(CLD_IO, "%.300s: the name '%.300s' is not UTF-8", w->t->path, path);
            CLD_TRY(cld_grow((void **)&w->images, &w->image_room, w->image_count + 1, sizeof m));
            w->images[w->image_count++] = m;
        } else if (is_mark(path)) {
            CLD_TRY(cld_grow((void **)&w->marks, &w->mark_room, w->mark_count + 1, sizeof m));
            w->marks[w->mark_count++] = m;
        }
    }
    return CLD_OK;
}

static void skip(member *m, size_t bytes) {
    m->path += bytes;
    m->folder = m->folder > bytes ? m->folder - (uint32_t)bytes : 0;
}

/* Leaves out the leading folders that all images share, except the last one. */
static void leave_out_common(work *w) {
    while (true) {
        const char *first = w->images[0].path;
        size_t part = strcspn(first, "/") + 1;
        for (size_t i = 0; i < w->image_count; i++) {
            const member *m = &w->images[i];
            if (m->folder <= part || strncmp(m->path, first, part) != 0) return;
        }
        for (size_t i = 0; i < w->image_count; i++) skip(&w->images[i], part);
    }
}

static void keep_last_of_a_name(work *w) {
    size_t kept = 0;
    for (size_t i = 0; i < w->image_count; i++) {
        bool again = kept && strcmp(w->images[kept - 1].path, w->images[i].path) == 0;
        w->images[again ? kept - 1 : kept++] = w->images[i];
    }
    w->image_count = kept;
}

/* ---- into the listing ---------------------------------------------------------------------------------- */

static cld_status take(work *w, const member *m, int64_t label) {
    cld_listing *l = w->l;
    uint64_t at;
    CLD_TRY(cld_strings_add(&l->text, m->path + (m->folder ? m->folder + 1 : 0),
                            strlen(m->path + (m->folder ? m->folder + 1 : 0)), &at));
    CLD_TRY(cld_grow((void **)&l->members, &l->room.members, (size_t)l->count + 1, sizeof *l->members));
    l->members[l->count] = m->index;
    return cld__listing_add(l, at, (uint32_t)(l->folder_count - 1), label);
}

/* The folder of the next image, if it differs from that of the one before. */
static cld_status take_folder(work *w, const member *m, const member *before) {
    uint64_t at;
    if (before && before->folder == m->folder && memcmp(before->path, m->path, m->folder) == 0) return CLD_OK;
    CLD_TRY(cld_strings_add(&w->l->text, m->path, m->folder, &at));
    return cld__listing_add_folder(w->l, at);
}

/* Takes images in order; each class begins with its first image. wanted: sorted, NULL for all. */
static cld_status take_classes(work *w, const char **wanted, size_t wanted_count) {
    cld_listing *l = w->l;
    const member *before = NULL, *class = NULL;
    size_t next = 0, missing = 0;
    bool is_wanted = true;
    for (const member *m = w->images; m < w->images + w->image_count; m++) {
        bool is_new = !class || by_bytes(class->path, class->class, m->path, m->class) != 0;
        if (is_new) {
            class = m;
            int order = -1;
            while (wanted && next < wanted_count &&
                   (order = by_bytes(wanted[next], strlen(wanted[next]), m->path, m->class)) < 0)
                wanted[missing++] = wanted[next++];
            is_wanted = !wanted || (next < wanted_count && order == 0);
            next += wanted && is_wanted;
        }
        if (!is_wanted) continue;
        if (is_new) {
            uint64_t at;
            CLD_TRY(cld_strings_add(&l->text, m->path, m->class, &at));
            CLD_TRY(cld__listing_add_class(l, at));
        }
        CLD_TRY(take_folder(w, m, before));
        CLD_TRY(take(w, m, l->classes - 1));
        before = m;
    }
    while (wanted && next < wanted_count) wanted[missing++] = wanted[next++];
    return missing ? cld__listing_fail_absent(l->root, wanted, missing) : CLD_OK;
}

static cld_status take_plain(work *w) {
    const member *before = NULL;
    for (const member *m = w->images; m < w->images + w->image_count; before = m++) {
        CLD_TRY(take_folder(w, m, before));
        CLD_TRY(take(w, m, -1));
    }
    return CLD_OK;
}

/* ---- WebDataset's labels ------------------------------------------------------------------------------- */

/* The length of the path up to the first dot of its name. */
static size_t key_length(const member *m) {
    size_t name = m->folder ? m->folder + 1 : 0;
    return name + strcspn(m->path + name, ".");
}

static int by_key(const void *a, const void *b) {
    const member *x = a, *y = b;
    int order = by_bytes(x->path, key_length(x), y->path, key_length(y));
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static cld_status read_mark(work *w, cld_reader *r, const member *m, int64_t *label) {
    char text[24] = "", *end;
    int64_t size = w->t->sizes[m->index];
    bool fits = size > 0 && size < (int64_t)sizeof text;
    if (fits) CLD_TRY(cld_reader_get(r, text, (uint64_t)w->t->offsets[m->index], (size_t)size));
    long value = strtol(text, &end, 10);
    while (*end == '\n' || *end == '\r' || *end == ' ') end++;
    if (!fits || end == text || *end || value < 0 || value >= MOST_CLASSES)
        return cld_fail(CLD_IO, "%.300s: '%.300s' is not a label: expected a number from 0 to %d as text",
                        w->t->path, m->path, MOST_CLASSES - 1);
    *label = value;
    return CLD_OK;
}

static cld_status take_labels(work *w, cld_reader *r) {
    cld_listing *l = w->l;
    int64_t largest = 0;
    qsort(w->marks, w->mark_count, sizeof *w->marks, by_key);
    for (int64_t i = 0; i < l->count; i++) {
        const member *m = &w->images[i];
        member *found = NULL;
        for (size_t low = 0, high = w->mark_count; low < high;) {
            size_t middle = (low + high) / 2;
            const member *mark = &w->marks[middle];
            int order = by_bytes(mark->path, key_length(mark), m->path, key_length(m));
            if (order == 0) found = &w->marks[middle];
            if (order <= 0) low = middle + 1;
            if (order > 0) high = middle;
        }
        if (!found)
            return cld_fail(CLD_IO, "%.300s: '%.300s' has no label: there is no '%.*s.cls'", w->t->path,
                            m->path, (int)(key_length(m) < 300 ? key_length(m) : 300), m->path);
        CLD_TRY(read_mark(w, r, found, &l->labels[i]));
        if (l->labels[i] > largest) largest = l->labels[i];
    }
    for (int64_t c = 0; c <= largest; c++) {
        char name[24];
        uint64_t at;
        int length = snprintf(name, sizeof name, "%lld", (long long)c);
        CLD_TRY(cld_strings_add(&l->text, name, (size_t)length, &at));
        CLD_TRY(cld__listing_add_class(l, at));
    }
    return CLD_OK;
}

/* ---- classes without images ---------------------------------------------------------------------------- */

static bool has_class(const cld_listing *l, const char *name, size_t length) {
    for (int64_t low = 0, high = l->classes; low < high;) {
        int64_t middle = (low + high) / 2;
        const char *there = cld_listing_class_name(l, middle);
        int order = by_bytes(there, strlen(there), name, length);
        if (order == 0) return true;
        if (order < 0) low = middle + 1;
        if (order > 0) high = middle;
    }
    return false;
}

/* In the unpacked archive, a folder whose files are not images would be a class without images, which is an error. */
static cld_status check_empty_classes(const work *w) {
    const char *first = cld_tar_name(w->t, w->images[0].index), *last = "";
    size_t left_out = (size_t)(w->images[0].path - first), last_length = 0;
    for (int64_t i = 0; i < w->t->count; i++) {
        const char *path = cld_tar_name(w->t, i);
        if (strncmp(path, first, left_out) != 0) continue;
        path += left_out;
        size_t length = strcspn(path, "/");
        if (!path[length] || by_bytes(path, length, last, last_length) == 0) continue;
        last = path;
        last_length = length;
        if (has_class(w->l, path, length)) continue;
        char what[300];
        snprintf(what, sizeof what,
                 "its folder '%.*s', though other folders have some: it is empty, or not a class",
                 length < 200 ? (int)length : 200, path);
        return cld__listing_fail_empty(w->l, what);
    }
    return CLD_OK;
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static bool is_split(const member *m) {
    return (m->class == 5 && memcmp(m->path, "train", 5) == 0) ||
           (m->class == 4 && memcmp(m->path, "test", 4) == 0) ||
           (m->class == 3 && memcmp(m->path, "val", 3) == 0);
}

/* Whether all images are in folders, which are then the classes. */
static cld_status find_classes(work *w, bool *are_classes) {
    const member *top = NULL, *below = NULL;
    bool all_splits = true, several = false;
    for (member *m = w->images; m < w->images + w->image_count; m++) {
        m->class = m->folder ? (uint32_t)strcspn(m->path, "/") : 0;
        *(m->folder ? &below : &top) = m;
        all_splits = all_splits && is_split(m);
        several = several || by_bytes(m->path, m->class, w->images->path, w->images->class) != 0;
    }
    if (top && below)
        return cld_fail(CLD_IO,
                        "%.200s: there are images both at its top ('%.100s') and in folders ('%.100s'): are "
                        "the folders classes? Layout 'classes' leaves out the images at the top, 'plain' "
                        "takes all images without classes",
                        w->t->path, top->path, below->path);
    if (all_splits && several)
        return cld_fail(
            CLD_IO, "%.300s: it holds several splits, such as '%.*s': choose one (inside = '%.*s')",
            w->t->path, (int)w->images->class, w->images->path, (int)w->images->class, w->images->path);
    *are_classes = below != NULL;
    return CLD_OK;
}

static void drop_top(work *w) {
    size_t kept = 0;
    for (size_t i = 0; i < w->image_count; i++)
        if (w->images[i].folder) w->images[kept++] = w->images[i];
    w->image_count = kept;
}

static cld_status list(work *w, const char *inside, const cld_listing_options *o) {
    bool are_classes = false, wants_classes = o->classes || o->layout == CLD_LISTING_CLASSES;
    if (o->classes && o->layout == CLD_LISTING_PLAIN)
        return cld_fail(CLD_INVALID, "%.300s: got a list of classes, but a layout without classes",
                        w->t->path);
    CLD_TRY(gather(w, inside));
    if (wants_classes) drop_top(w);
    if (w->image_count == 0)
        return cld__listing_fail_empty(w->l, inside          ? "that folder of it"
                                             : wants_classes ? "folders of it"
                                                             : "it");
    if (o->layout != CLD_LISTING_PLAIN) {
        leave_out_common(w);
        CLD_TRY(find_classes(w, &are_classes));
    }
    qsort(w->images, w->image_count, sizeof *w->images, by_place);
    keep_last_of_a_name(w);
    if (are_classes) {
        const char **wanted = o->classes ? cld__listing_wanted(o) : NULL;
        if (o->classes && !wanted) return cld_error_code();
        cld_status status = take_classes(w, wanted, o->class_count);
        free(wanted);
        return status != CLD_OK || o->classes ? status : check_empty_classes(w);
    }
    CLD_TRY(take_plain(w));
    if (w->mark_count == 0 || o->layout == CLD_LISTING_PLAIN) return CLD_OK;
    cld_reader r;
    CLD_TRY(cld_reader_open(&r, w->t->path));
    cld_status status = take_labels(w, &r);
    cld_reader_close(&r);
    return status;
}

cld_listing *cld_tar_listing_new(const cld_tar *t, const char *inside, const cld_listing_options *options) {
    static const cld_listing_options none = {0};
    char *root = NULL;
    cld_listing *l = calloc(1, sizeof *l);
    if (!l || asprintf(&root, "%s%s%s", t->path, inside ? "/" : "", inside ? inside : "") < 0) {
        free(l);
        return cld_fail_null(CLD_NOMEM, "out of memory for the list of '%.300s'", t->path);
    }
    l->root = root;
    work w = {.t = t, .l = l};
    cld_status status = list(&w, inside, options ? options : &none);
    free(w.images);
    free(w.marks);
    if (status == CLD_OK) return l;
    cld_listing_free(l);
    return NULL;
}
