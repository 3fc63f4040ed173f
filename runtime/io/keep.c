/* Keeping files under another name. The contract is in keep.h. */
#define _GNU_SOURCE
#include "runtime/io/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/io/file.h"

/* Links and copies are made under temporary names as in file.h, which the removal of leftovers recognizes. */
#define MOST_OF_NAME (NAME_MAX - 1 - 16 - 4)

/* Errors that are not the file's fault: the file system has no hard links, or the link would cross two. */
static bool cannot_link(int reason) {
    return reason == EPERM || reason == EXDEV || reason == EMLINK || reason == EOPNOTSUPP ||
           reason == ENOSYS || reason == EINVAL;
}

/* Links the file to a new temporary name. Returns 0 or an errno. */
static int link_temporary(const cld_folder *folder, const char *name, const char *as,
                          char temporary[NAME_MAX + 1]) {
    for (int tries = 0; tries < 100; tries++) {
        unsigned long long tag;
        if (getrandom(&tag, sizeof tag, 0) != (ssize_t)sizeof tag) return errno;
        snprintf(temporary, NAME_MAX + 1, "%.*s.%016llx.tmp", MOST_OF_NAME, as, tag);
        if (linkat(folder->fd, name, folder->fd, temporary, AT_SYMLINK_FOLLOW) == 0) return 0;
        if (errno != EEXIST) return errno;
    }
    return EEXIST;
}

/* Copies the rest of the file, from `begin` on, through memory. */
static cld_status copy_rest(cld_reader *from, cld_writer *to, uint64_t begin) {
    char buffer[1 << 16];
    while (begin < from->bytes) {
        uint64_t left = from->bytes - begin;
        size_t bytes = left < sizeof buffer ? (size_t)left : sizeof buffer;
        CLD_TRY(cld_reader_get(from, buffer, begin, bytes));
        CLD_TRY(cld_writer_put(to, buffer, bytes));
        begin += bytes;
    }
    return CLD_OK;
}

static cld_status copy(const cld_folder *folder, const char *name, const char *as) {
    cld_reader from;
    cld_writer to;
    CLD_TRY(cld_reader_open_in(&from, folder, name));
    cld_status status = cld_writer_open_in(&to, folder, as);
    if (status == CLD_OK) {
        uint64_t copied = 0; /* by the kernel, which may share the blocks; 0 if it cannot copy */
        ssize_t bytes;
        while (copied < from.bytes &&
               (bytes = copy_file_range(from.fd, NULL, to.fd, NULL, from.bytes - copied, 0)) > 0)
            copied += (uint64_t)bytes;
        status = copy_rest(&from, &to, copied);
        if (status == CLD_OK)
            status = cld_writer_commit(&to);
        else
            cld_writer_abandon(&to);
    }
    cld_reader_close(&from);
    return status;
}

static void flush(const cld_folder *folder) {
    int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* only the names: the file itself is on the disk */
    close(fd);
}

cld_status cld_keep_as(const cld_folder *folder, const char *name, const char *as) {
    char temporary[NAME_MAX + 1];
    int reason = link_temporary(folder, name, as, temporary);
    if (cannot_link(reason)) return copy(folder, name, as);
    if (reason) {
        errno = reason;
        return cld_folder_fail(folder, "keep", name);
    }
    cld_status status = CLD_OK;
    if (renameat(folder->fd, temporary, folder->fd, as) != 0) status = cld_folder_fail(folder, "replace", as);
    unlinkat(folder->fd, temporary, 0); /* rename leaves it there if `as` is already the same file */
    if (status == CLD_OK) flush(folder);
    return status;
}

cld_status cld_folder_remove(const cld_folder *folder, const char *name) {
    if (unlinkat(folder->fd, name, 0) == 0 || errno == ENOENT) return CLD_OK;
    return cld_folder_fail(folder, "remove", name);
}
