/* Unpacking archives into folders. Files are created relative to a descriptor of the folder, and never through a link,
 * since no links are created. */
#define _GNU_SOURCE
#include "runtime/io/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- emptying a folder --------------------------------------------------------------------------------- */

static int remove_below(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts, (void)kind;
    return place->level > 0 && remove(path) != 0 ? -1 : 0;
}

cld_status cld_empty_folder(const char *path) {
    if (nftw(path, remove_below, 16, FTW_DEPTH | FTW_PHYS) == 0) return CLD_OK;
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot empty the folder '%s': %s", path,
                    strerror(errno));
}

#ifndef CLD_HAVE_ARCHIVE

cld_unpack *cld_unpack_new(const char *archive, const char *folder) {
    (void)archive, (void)folder;
    return cld_fail_null(CLD_UNSUPPORTED,
                         "cldlua was built without libarchive, which unpacks archives; install "
                         "libarchive-dev (Debian) and run make again");
}
cld_status cld_unpack_step(cld_unpack *u, double seconds, uint64_t *read, bool *done) {
    (void)u, (void)seconds, (void)read, (void)done;
    return CLD_UNSUPPORTED;
}
void cld_unpack_free(cld_unpack *u) { (void)u; }

#else

#    include <archive.h>
#    include <archive_entry.h>

#    include "runtime/core/process.h"
#    include "runtime/core/text.h"
#    include "runtime/io/library.h"

/* clang-format off */
# define FUNCTIONS(X) \
    X(archive_read_new) X(archive_read_support_format_tar) X(archive_read_support_filter_gzip) \
    X(archive_read_open_fd) X(archive_read_next_header) X(archive_read_data_block) X(archive_read_free) \
    X(archive_filter_bytes) X(archive_error_string) X(archive_entry_pathname) X(archive_entry_filetype) \
    X(archive_entry_hardlink)
/* clang-format on */
static struct { FUNCTIONS(CLD_LIBRARY_MEMBER) } lib;
static const char *const names[] = {FUNCTIONS(CLD_LIBRARY_NAME)};

enum { BLOCK = 1 << 18, FLUSH_EVERY = 1 << 26 };

struct cld_unpack {
    struct archive *archive;
    char *path;
    int in, folder, out; /* out: the current member's file, or -1 */
    char name[4096];     /* the member's; made printable in messages */
    uint64_t size, unflushed;
    bool any;
};

/* ---- messages ------------------------------------------------------------------------------------------ */

/* An error about the archive as a whole. */
static cld_status fail_archive(cld_unpack *u, int code) {
    const char *words = lib.archive_error_string(u->archive);
    bool memory = words && strstr(words, "memory");
    return cld_fail(memory ? CLD_NOMEM : CLD_IO, "cannot unpack '%s': %s", u->path,
                    words                   ? words
                    : code == ARCHIVE_FATAL ? "it is damaged"
                                            : "it cannot be read");
}

/* An error about the current member. */
static cld_status fail_member(cld_unpack *u, const char *what) {
    char shown[512];
    cld_printable(shown, sizeof shown, u->name, strlen(u->name), CLD_ONE_LINE);
    return cld_fail(CLD_IO, "cannot unpack '%s': its member '%s' %s", u->path, shown, what);
}

static cld_status fail_errno(cld_unpack *u) {
    char what[128];
    snprintf(what, sizeof what, "cannot be written: %s", strerror(errno));
    return fail_member(u, errno == EEXIST ? "occurs twice" : what);
}

/* ---- members ------------------------------------------------------------------------------------------- */

static bool leads_up(const char *name) {
    for (const char *at = name; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || at[2] == 0)) return true;
    }
    return false;
}

/* Sets u->name to the member's, without a leading "./" or trailing "/"; "" for the folder itself. */
static cld_status take_name(cld_unpack *u, const char *name) {
    u->name[0] = 0;
    if (!name) return fail_member(u, "has a name that cannot be read");
    while (name[0] == '.' && name[1] == '/') name += 2 + strspn(name + 2, "/");
    size_t length = strlen(name);
    bool too_long = length >= sizeof u->name;
    snprintf(u->name, sizeof u->name, "%.4095s", name);
    if (too_long) return fail_member(u, "has a name of more than 4095 bytes");
    if (u->name[0] == '/') return fail_member(u, "has an absolute path");
    if (leads_up(u->name)) return fail_member(u, "leads out of its folder");
    while (length > 0 && u->name[length - 1] == '/') u->name[--length] = 0;
    if (strcmp(u->name, ".") == 0) u->name[0] = 0;
    return CLD_OK;
}

/* Creates the folders above the member, and if `last`, the member as a folder too. */
static cld_status make_folders(cld_unpack *u, bool last) {
    for (char *end = u->name; *end; end++) {
        if (*end != '/') continue;
        *end = 0;
        bool ok = mkdirat(u->folder, u->name, 0777) == 0 || errno == EEXIST;
        int reason = errno;
        *end = '/';
        errno = reason;
        if (!ok) return fail_errno(u);
    }
    struct stat facts;
    if (!last || mkdirat(u->folder, u->name, 0777) == 0) return CLD_OK;
    bool there = errno == EEXIST && fstatat(u->folder, u->name, &facts, AT_SYMLINK_NOFOLLOW) == 0 &&
                 S_ISDIR(facts.st_mode);
    return there ? CLD_OK : fail_errno(u);
}

static cld_status start_member(cld_unpack *u, struct archive_entry *e) {
    CLD_TRY(take_name(u, lib.archive_entry_pathname(e)));
    mode_t kind = lib.archive_entry_filetype(e);
    if (kind == AE_IFLNK || lib.archive_entry_hardlink(e))
        return fail_member(u, "is a link; links are not unpacked");
    if (kind == AE_IFDIR) return u->name[0] ? make_folders(u, true) : CLD_OK;
    if (kind != AE_IFREG) return fail_member(u, "is a device, a pipe or a socket");
    if (!u->name[0]) return fail_member(u, "is a file without a name");
    CLD_TRY(make_folders(u, false));
    u->out = openat(u->folder, u->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (u->out < 0) return fail_errno(u);
    u->size = 0;
    u->any = true;
    return CLD_OK;
}

/* Flushes now and then, so that no single flush is long enough to keep a user waiting who wants to stop. */
static cld_status put(cld_unpack *u, const char *data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        size_t part = bytes < BLOCK ? bytes : BLOCK;
        ssize_t written = pwrite(u->out, data, part, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(u);
        data += written, bytes -= (size_t)written, offset += (uint64_t)written;
        u->unflushed += (uint64_t)written;
    }
    if (offset > u->size) u->size = offset;
    if (u->unflushed < FLUSH_EVERY) return CLD_OK;
    u->unflushed = 0;
    return fdatasync(u->out) == 0 ? CLD_OK : fail_errno(u);
}

static cld_status end_member(cld_unpack *u) {
    int out = u->out;
    u->out = -1;
    bool ok = ftruncate(out, (off_t)u->size) == 0 && fsync(out) == 0;
    int reason = errno;
    ok = close(out) == 0 && ok;
    if (!ok && reason) errno = reason;
    return ok ? CLD_OK : fail_errno(u);
}

/* Unpacks one block of the current member, or starts the next member. */
static cld_status advance(cld_unpack *u, bool *done) {
    if (u->out >= 0) {
        const void *data;
        size_t bytes;
        la_int64_t offset = 0;
        int code = lib.archive_read_data_block(u->archive, &data, &bytes, &offset);
        if (code == ARCHIVE_EOF) { /* a file may end with a hole, after its last block */
            if (offset > (la_int64_t)u->size) u->size = (uint64_t)offset;
            return end_member(u);
        }
        if (code < ARCHIVE_WARN) return fail_archive(u, code);
        return put(u, data, bytes, (uint64_t)offset);
    }
    struct archive_entry *entry;
    int code = lib.archive_read_next_header(u->archive, &entry);
    if (code == ARCHIVE_EOF) {
        *done = true;
        return u->any ? CLD_OK : cld_fail(CLD_IO, "cannot unpack '%s': it holds no files", u->path);
    }
    if (code < ARCHIVE_WARN) return fail_archive(u, code);
    return start_member(u, entry);
}

cld_status cld_unpack_step(cld_unpack *u, double seconds, uint64_t *read, bool *done) {
    double end = cld_clock() + seconds;
    *done = false;
    do CLD_TRY(advance(u, done));
    while (!*done && cld_clock() < end);
    la_int64_t bytes = lib.archive_filter_bytes(u->archive, -1);
    *read = bytes > 0 ? (uint64_t)bytes : 0;
    return CLD_OK;
}

/* ---- creating and freeing ------------------------------------------------------------------------------ */

static cld_status open_archive(cld_unpack *u, const char *archive, const char *folder) {
    struct stat facts;
    CLD_TRY(cld_library_load("libarchive.so.13", "libarchive13", names, (void **)&lib,
                             sizeof names / sizeof *names));
    u->path = strdup(archive);
    u->archive = lib.archive_read_new();
    if (!u->path || !u->archive) return cld_fail(CLD_NOMEM, "out of memory to unpack '%s'", archive);
    u->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (u->folder < 0) return cld_fail(CLD_IO, "cannot open the folder '%s': %s", folder, strerror(errno));
    u->in = open(archive, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (u->in < 0 || fstat(u->in, &facts) != 0)
        return cld_fail(CLD_IO, "cannot open '%s': %s", archive, strerror(errno));
    if (!S_ISREG(facts.st_mode))
        return cld_fail(CLD_IO, "cannot unpack '%s': it is not a regular file", archive);
    lib.archive_read_support_format_tar(u->archive);
    lib.archive_read_support_filter_gzip(u->archive);
    int code = lib.archive_read_open_fd(u->archive, u->in, BLOCK);
    return code < ARCHIVE_WARN ? fail_archive(u, code) : CLD_OK;
}

cld_unpack *cld_unpack_new(const char *archive, const char *folder) {
    cld_unpack *u = calloc(1, sizeof *u);
    if (!u) return cld_fail_null(CLD_NOMEM, "out of memory to unpack '%s'", archive);
    u->in = u->folder = u->out = -1;
    if (open_archive(u, archive, folder) == CLD_OK) return u;
    cld_unpack_free(u);
    return NULL;
}

void cld_unpack_free(cld_unpack *u) {
    if (!u) return;
    if (u->archive) lib.archive_read_free(u->archive);
    int *const descriptors[] = {&u->out, &u->in, &u->folder};
    for (int i = 0; i < 3; i++)
        if (*descriptors[i] >= 0) close(*descriptors[i]);
    free(u->path);
    free(u);
}

#endif
