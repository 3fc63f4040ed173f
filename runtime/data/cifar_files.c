/* The files of CIFAR, and where to find them. */
#define _GNU_SOURCE
#include "runtime/data/cifar_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HOME "https://www.cs.toronto.edu/~kriz/"
#define CIFAR100(key, count, at)                                                                             \
    {                                                                                                        \
        .title = "CIFAR-100", .name = "cifar100", .folder = {"", "cifar-100-python", "cifar-100-binary"},    \
        .archive = {"", HOME "cifar-100-python.tar.gz", HOME "cifar-100-binary.tar.gz"}, .train = {"train"}, \
        .test = {"test"}, .meta = "meta", .meta_key = key "_label_names",                                    \
        .meta_text = key "_label_names.txt", .labels_key = key "_labels", .classes = count,                  \
        .label_bytes = 2, .label_at = at,                                                                    \
    }

static const cld_cifar_format formats[] = {
    [CLD_CIFAR10] =
        {
            .title = "CIFAR-10",
            .name = "cifar10",
            .folder = {"", "cifar-10-batches-py", "cifar-10-batches-bin"},
            .archive = {"", HOME "cifar-10-python.tar.gz", HOME "cifar-10-binary.tar.gz"},
            .train = {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"},
            .test = {"test_batch"},
            .meta = "batches.meta",
            .meta_key = "label_names",
            .meta_text = "batches.meta.txt",
            .labels_key = "labels",
            .classes = 10,
            .label_bytes = 1,
        },
    [CLD_CIFAR100_FINE] = CIFAR100("fine", 100, 1),
    [CLD_CIFAR100_COARSE] = CIFAR100("coarse", 20, 0),
};

void cld__cifar_path(char path[4096], const cld_cifar_place *p, const char *name) {
    snprintf(path, 4096, "%s/%s%s", p->folder, name, p->layout == CLD_LAYOUT_BINARY ? ".bin" : "");
}

/* The first path that could not be read. */
typedef struct obstacle {
    int reason;       /* errno; 0: nothing */
    const char *what; /* "the folder ", or "": a file */
    char path[4096];
} obstacle;

static void note(obstacle *o, const char *what, const char *path, int reason) {
    if (o->reason) return;
    o->reason = reason;
    o->what = what;
    snprintf(o->path, sizeof o->path, "%s", path);
}

/* errno from looking at the path; 0 if it exists. *dangling: it is a link to nowhere. */
static int look(const char *path, struct stat *facts, bool *dangling) {
    *dangling = false;
    if (stat(path, facts) == 0) return 0;
    int reason = errno;
    *dangling = reason == ENOENT && lstat(path, facts) == 0;
    return reason;
}

static cld_status cannot_read(const cld_cifar_format *f, const char *what, const char *path, int reason) {
    return cld_fail(CLD_IO, "%s: cannot read %s'%s': %s", f->title, what, path,
                    reason == ENOENT    ? "it is a link whose target does not exist"
                    : reason == ENOTDIR ? "it is not a folder"
                    : reason == EISDIR  ? "it is a folder"
                                        : strerror(reason));
}

/* Whether p->folder holds any of the data set's files: then it is the right folder, and missing or unreadable files
 * there are an error. A folder with the name of a file does not count, and is not an error in the root: CIFAR-100's
 * files are called train and test, which are common names of folders. */
static bool holds_any(const cld_cifar_place *p, const char *root, obstacle *o) {
    char path[4096];
    struct stat facts;
    bool dangling;
    int reason = look(p->folder, &facts, &dangling);
    if (reason == 0 && !S_ISDIR(facts.st_mode)) reason = ENOTDIR;
    if (reason != 0) {
        if (reason != ENOENT || dangling) note(o, "the folder ", p->folder, reason);
        return false;
    }
    const char *const *lists[] = {p->format->train, p->format->test};
    for (int l = 0; l < 2; l++)
        for (const char *const *name = lists[l]; *name; name++) {
            cld__cifar_path(path, p, *name);
            reason = look(path, &facts, &dangling);
            bool is_folder = reason == 0 && S_ISDIR(facts.st_mode);
            if (reason == 0 ? !is_folder : dangling) return true;
            if (is_folder && strcmp(p->folder, root) != 0) reason = EISDIR;
            if (reason == EACCES)
                note(o, "the folder ", p->folder, reason);
            else if (reason != 0 && reason != ENOENT)
                note(o, "", path, reason);
        }
    return false;
}

static cld_status check_root(const char *root, const cld_cifar_format *format) {
    struct stat facts;
    bool dangling;
    if (strlen(root) > 2048)
        return cld_fail(CLD_IO, "%s: the path '%.60s...' is too long", format->title, root);
    int reason = look(root, &facts, &dangling);
    if (reason == 0 && !S_ISDIR(facts.st_mode)) reason = ENOTDIR;
    if (reason == 0) return CLD_OK;
    if (reason != ENOENT || dangling) return cannot_read(format, "the folder ", root, reason);
    return cld_fail(CLD_IO,
                    "%s: there is no folder '%s'; it should hold %s from %s, which --download (or "
                    "recipes/download.lua %s) fetches",
                    format->title, root, format->folder[CLD_LAYOUT_PYTHON],
                    format->archive[CLD_LAYOUT_PYTHON], format->name);
}

cld_status cld__cifar_find(cld_cifar_place *p, const char *root, cld_cifar_kind kind,
                           cld_cifar_layout layout) {
    const cld_cifar_format *format = &formats[kind];
    obstacle o = {0};
    CLD_TRY(check_root(root, format));
    p->format = format;
    for (int l = CLD_LAYOUT_PYTHON; l <= CLD_LAYOUT_BINARY; l++) {
        if (layout != CLD_LAYOUT_AUTO && (int)layout != l) continue;
        p->layout = (cld_cifar_layout)l;
        snprintf(p->folder, sizeof p->folder, "%s/%s", root, format->folder[l]);
        if (holds_any(p, root, &o)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s/%s/%s", root, format->title, format->folder[l]);
        if (holds_any(p, root, &o)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s/%s", root, format->title);
        if (holds_any(p, root, &o)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s", root);
        if (holds_any(p, root, &o)) return CLD_OK;
    }
    if (o.reason) return cannot_read(format, o.what, o.path, o.reason);
    int shown = layout == CLD_LAYOUT_BINARY ? CLD_LAYOUT_BINARY : CLD_LAYOUT_PYTHON;
    return cld_fail(CLD_IO,
                    "%s: no %sfiles in '%s', '%s/%s' or '%s/%s/%s'; unpack %s there, or let --download "
                    "(recipes/download.lua %s) do it",
                    format->title,
                    layout == CLD_LAYOUT_AUTO     ? ""
                    : layout == CLD_LAYOUT_PYTHON ? "python-layout "
                                                  : "binary-layout ",
                    root, root, format->folder[shown], root, format->title, format->folder[shown],
                    format->archive[shown], format->name);
}

bool cld__cifar_exists(const char *path) {
    struct stat facts;
    bool dangling;
    return look(path, &facts, &dangling) != ENOENT || dangling;
}

cld_status cld__cifar_open(cld_reader *r, const char *path, const cld_cifar_format *f) {
    struct stat facts;
    bool dangling;
    cld_status status = cld_reader_open(r, path);
    if (status == CLD_OK) return CLD_OK;
    if (status == CLD_IO && look(path, &facts, &dangling) == ENOENT && dangling)
        return cannot_read(f, "", path, ENOENT);
    return cld_fail_in("%s", f->title);
}
