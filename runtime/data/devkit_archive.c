/* The development kit's archive, if there is libarchive. Two of its files are read; nothing is written. */
#include "runtime/data/devkit.h"

#ifdef CLD_HAVE_ARCHIVE

#    include <archive.h>
#    include <archive_entry.h>
#    include <stdbool.h>
#    include <stdlib.h>
#    include <string.h>

#    include "runtime/io/library.h"

/* clang-format off */
# define FUNCTIONS(X) \
    X(archive_read_new) X(archive_read_support_format_tar) X(archive_read_support_filter_gzip) \
    X(archive_read_open_filename) X(archive_read_next_header) X(archive_read_data) X(archive_read_free) \
    X(archive_error_string) X(archive_entry_pathname)
/* clang-format on */
static struct { FUNCTIONS(CLD_LIBRARY_MEMBER) } lib;
static const char *const names[] = {FUNCTIONS(CLD_LIBRARY_NAME)};

static cld_status read_entry(struct archive *a, const char *path, cld__kit_file *f) {
    size_t room = 0;
    f->length = 0;
    while (true) {
        if (f->length == room) {
            size_t wanted = room ? 2 * room : 1 << 16;
            char *grown = room < CLD__MOST_OF_KIT ? realloc(f->bytes, wanted + 1) : NULL;
            if (!grown) return cld_fail(CLD_IO, "%.300s: '%s' in it is too large", path, f->name);
            f->bytes = grown;
            room = wanted;
        }
        la_ssize_t got = lib.archive_read_data(a, f->bytes + f->length, room - f->length);
        if (got < 0)
            return cld_fail(CLD_IO, "%.300s: cannot be unpacked: %.200s", path, lib.archive_error_string(a));
        if (got == 0) break;
        f->length += (size_t)got;
    }
    f->bytes[f->length] = '\0';
    return CLD_OK;
}

/* Whether the path is the name, or ends with it after a slash. */
static bool ends_with(const char *path, const char *name) {
    size_t length = strlen(path), end = strlen(name);
    return length >= end && strcmp(path + length - end, name) == 0 &&
           (length == end || path[length - end - 1] == '/');
}

static cld_status read_entries(struct archive *a, const char *path, cld__kit_file *files, int count) {
    struct archive_entry *entry;
    int result = ARCHIVE_OK, left = count;
    while (left > 0 && (result = lib.archive_read_next_header(a, &entry)) >= ARCHIVE_WARN &&
           result != ARCHIVE_EOF) {
        const char *name = lib.archive_entry_pathname(entry);
        for (int i = 0; name && i < count; i++) {
            if (files[i].bytes || !ends_with(name, files[i].name)) continue;
            CLD_TRY(read_entry(a, path, &files[i]));
            left--;
            break;
        }
    }
    if (left > 0 && result != ARCHIVE_EOF)
        return cld_fail(CLD_IO, "%.300s: cannot be unpacked: %.200s", path, lib.archive_error_string(a));
    return CLD_OK;
}

cld_status cld__kit_unpack(const char *path, cld__kit_file *files, int count) {
    CLD_TRY(cld_library_load("libarchive.so.13", "libarchive13", names, (void **)&lib,
                             sizeof names / sizeof *names));
    struct archive *a = lib.archive_read_new();
    if (!a) return cld_fail(CLD_NOMEM, "%.300s: out of memory", path);
    lib.archive_read_support_filter_gzip(a);
    lib.archive_read_support_format_tar(a);
    cld_status status =
        lib.archive_read_open_filename(a, path, 1 << 16) == ARCHIVE_OK
            ? read_entries(a, path, files, count)
            : cld_fail(CLD_IO, "%.300s: cannot be unpacked: %.200s", path, lib.archive_error_string(a));
    lib.archive_read_free(a);
    return status;
}

#else

cld_status cld__kit_unpack(const char *path, cld__kit_file *files, int count) {
    (void)files;
    (void)count;
    return cld_fail(CLD_UNSUPPORTED,
                    "%.300s: this build has no libarchive; unpack it (tar -xf) and give the folder", path);
}

#endif
