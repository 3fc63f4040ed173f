/* Reading zip archives. The contract is in zip.h. */
#define _GNU_SOURCE
#include "runtime/io/zip.h"

#ifndef CLD_HAVE_ARCHIVE

cld_zip *cld_zip_open(cld_reader *reader) {
    return cld_fail_null(
        CLD_UNSUPPORTED,
        "%s: a zip archive, but cldlua was built without libarchive, which reads them; install "
        "libarchive-dev (Debian) and run make again",
        reader->path);
}
cld_status cld_zip_next(cld_zip *z, cld_zip_member *member) {
    (void)z, (void)member;
    return CLD_UNSUPPORTED;
}
cld_status cld_zip_read(cld_zip *z, void *out, size_t bytes) {
    (void)z, (void)out, (void)bytes;
    return CLD_UNSUPPORTED;
}
cld_status cld_zip_take(cld_zip *z, void *out, size_t bytes) { return cld_zip_read(z, out, bytes); }
cld_status cld_zip_finish(cld_zip *z) {
    (void)z;
    return CLD_UNSUPPORTED;
}
void cld_zip_close(cld_zip *z) { (void)z; }

#else

#    include <archive.h>
#    include <archive_entry.h>
#    include <errno.h>
#    include <locale.h>
#    include <stdlib.h>
#    include <string.h>
#    include <unistd.h>

#    include "runtime/core/text.h"
#    include "runtime/io/library.h"

/* clang-format off */
# define FUNCTIONS(X) \
    X(archive_read_new) X(archive_read_support_format_zip_seekable) X(archive_read_open_fd) \
    X(archive_read_next_header) X(archive_read_data) X(archive_read_free) X(archive_error_string) \
    X(archive_entry_pathname) X(archive_entry_pathname_utf8) X(archive_entry_size) X(archive_read_set_options) X(archive_errno)
/* clang-format on */
static struct { FUNCTIONS(CLD_LIBRARY_MEMBER) } lib;
static const char *const names[] = {FUNCTIONS(CLD_LIBRARY_NAME)};

enum { BLOCK = 1 << 18 };

struct cld_zip {
    struct archive *archive;
    const char *path; /* the reader's */
    const char *name; /* of the current member */
    locale_t utf8; /* libarchive gives names only in the locale's characters; 0 if there is no such locale */
};

/* Whether libarchive ran out of memory. It does not always set its error number, and its messages differ. If a format's
 * check had no memory there is no message at all, and the file counts as one of another format: then only errno tells,
 * which must be 0 before a call that may fail. */
static bool lacks_memory(const cld_zip *z) {
    const char *words = lib.archive_error_string(z->archive);
    return errno == ENOMEM || lib.archive_errno(z->archive) == ENOMEM ||
           (words && (strstr(words, "memory") || strstr(words, "llocate")));
}

static cld_status fail(const cld_zip *z, const char *what) {
    const char *words = lib.archive_error_string(z->archive);
    char shown[256] = "";
    if (lacks_memory(z)) return cld_fail(CLD_NOMEM, "%s: out of memory to read the zip archive", z->path);
    if (z->name) cld_printable(shown, sizeof shown, z->name, strlen(z->name), CLD_ONE_LINE);
    return cld_fail(CLD_IO, "%s: %s%s%s%s: %s", z->path, what, *shown ? " '" : "", shown, *shown ? "'" : "",
                    words ? words : "it cannot be read");
}

cld_zip *cld_zip_open(cld_reader *reader) {
    CLD_TRY_NULL(cld_library_load("libarchive.so.13", "libarchive13", names, (void **)&lib,
                                  sizeof names / sizeof *names));
    cld_zip *z = calloc(1, sizeof *z);
    if (!z || !(z->archive = lib.archive_read_new())) {
        free(z);
        return cld_fail_null(CLD_NOMEM, "%s: out of memory", reader->path);
    }
    z->path = reader->path;
    z->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    errno = 0;
    lib.archive_read_support_format_zip_seekable(z->archive);
#    ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    lib.archive_read_set_options(z->archive, "zip:ignorecrc32"); /* else all damage would stop there */
#    endif
    bool opened = lseek(reader->fd, 0, SEEK_SET) == 0 &&
                  lib.archive_read_open_fd(z->archive, reader->fd, BLOCK) >= ARCHIVE_WARN;
    if (opened) return z;
    if (lacks_memory(z))
        (void)fail(z, "");
    else
        (void)cld_fail(CLD_IO, "%s: truncated or damaged: the zip archive lacks the directory at its end",
                       reader->path);
    cld_zip_close(z);
    return NULL;
}

/* Names are compared byte by byte, whatever the locale. */
static const char *member_name(struct archive_entry *entry) {
    const char *name = lib.archive_entry_pathname(entry);
    if (!name) name = lib.archive_entry_pathname_utf8(entry);
    return name ? name : "";
}

cld_status cld_zip_next(cld_zip *z, cld_zip_member *member) {
    struct archive_entry *entry;
    z->name = NULL;
    *member = (cld_zip_member){0};
    errno = 0;
    locale_t before = uselocale(z->utf8);
    int code = lib.archive_read_next_header(z->archive, &entry);
    const char *name = code >= ARCHIVE_WARN && code != ARCHIVE_EOF ? member_name(entry) : NULL;
    uselocale(before);
    if (code == ARCHIVE_EOF) return CLD_OK;
    if (code < ARCHIVE_WARN) return fail(z, "truncated or damaged: a member of the zip archive");
    int64_t bytes = lib.archive_entry_size(entry);
    member->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    z->name = member->name = name;
    return CLD_OK;
}

cld_status cld_zip_take(cld_zip *z, void *out, size_t bytes) {
    errno = 0;
    for (char *to = out; bytes > 0;) {
        la_ssize_t got = lib.archive_read_data(z->archive, to, bytes);
        if (got < 0) return fail(z, "truncated or damaged: the member");
        if (got == 0)
            return cld_fail(CLD_IO, "%s: damaged: its member '%.200s' is too short", z->path, z->name);
        to += got;
        bytes -= (size_t)got;
    }
    return CLD_OK;
}

cld_status cld_zip_finish(cld_zip *z) {
    errno = 0;
    char more; /* the checksum is compared at the end */
    la_ssize_t got = lib.archive_read_data(z->archive, &more, 1);
    if (got == 0) return CLD_OK;
    if (got < 0) return fail(z, "damaged: the member");
    return cld_fail(CLD_IO, "%s: damaged: its member '%.200s' is too long", z->path, z->name);
}

cld_status cld_zip_read(cld_zip *z, void *out, size_t bytes) {
    CLD_TRY(cld_zip_take(z, out, bytes));
    return cld_zip_finish(z);
}

void cld_zip_close(cld_zip *z) {
    if (!z) return;
    lib.archive_read_free(z->archive);
    if (z->utf8) freelocale(z->utf8);
    free(z);
}

#endif
