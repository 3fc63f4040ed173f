/* Reading and writing whole files. The contract is in file.h. */
#define _GNU_SOURCE
#include "runtime/io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Linux moves at most this much in one call. */
#define MOST_AT_ONCE ((size_t)0x7ffff000)

static cld_status fail_errno(const char *doing, const char *path) {
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot %s '%s': %s", doing, path, strerror(errno));
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* At most this many symbolic links may lead to a file: the kernel's own limit. */
#define MOST_LINKS 40

/* The temporary's name must fit in a folder too, so only this much of the file's name goes into it. */
#define TEMPORARY_FORMAT "%.*s.%016llx.tmp"
#define MOST_OF_NAME     (NAME_MAX - 1 - 16 - 4)

static cld_status fail_place(const char *path, const char *target) {
    if (!target) return fail_errno("write", path);
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot write '%s', a symbolic link to '%s': %s",
                    path, target, strerror(errno));
}

/* Opens the folder that contains `path`, which is relative to the folder `at`. *name is what follows the path's last
 * slash. */
static int open_parent(int at, char *path, const char **name) {
    char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash) return openat(at, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *slash = '\0';
    return openat(at, slash == path ? "/" : path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool is_file_name(const char *name) {
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Sets the writer's folder and name to those of the file that the path `from`, relative to the folder `at`, leads
 * to. */
static cld_status find_place(cld_writer *w, int at, const char *from) {
    char target[PATH_MAX]; /* of the last link */
    bool is_link = false;
    for (int links = 0; links <= MOST_LINKS; links++) {
        const char *name;
        char *path = strdup(is_link ? target : from);
        if (!path) return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", w->path);
        int folder = open_parent(is_link ? w->folder : at, path, &name);
        int reason = errno;
        if (w->folder >= 0) close(w->folder);
        free(w->name);
        w->folder = folder;
        w->name = strdup(name);
        bool is_file = is_file_name(name);
        free(path);
        errno = reason;
        if (folder < 0) return fail_place(w->path, is_link ? target : NULL);
        if (!w->name) return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", w->path);
        if (!is_file) return cld_fail(CLD_IO, "cannot write '%s': it is not a regular file", w->path);
        ssize_t length = readlinkat(folder, w->name, target, sizeof target - 1);
        if (length < 0 && (errno == EINVAL || errno == ENOENT)) return CLD_OK; /* no link, or no file yet */
        if (length < 0) return fail_place(w->path, is_link ? target : NULL);
        target[length] = '\0';
        is_link = true;
    }
    errno = ELOOP;
    return fail_errno("write", w->path);
}

/* Whether the new temporary is ours alone: a process that removes leftovers may have found it before we locked it. On a
 * file system without locks no leftovers are removed. */
static bool lock_temporary(int fd) {
    struct stat facts;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
    return fstat(fd, &facts) == 0 && facts.st_nlink > 0;
}

static cld_status open_temporary(cld_writer *w, mode_t mode, const cld_folder *held) {
    for (int tries = 0; tries < 100 && w->fd < 0; tries++) {
        unsigned long long tag;
        free(w->temporary);
        if (getrandom(&tag, sizeof tag, 0) != (ssize_t)sizeof tag) return fail_errno("write", w->path);
        if (asprintf(&w->temporary, TEMPORARY_FORMAT, MOST_OF_NAME, w->name, tag) < 0) {
            w->temporary = NULL;
            return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", w->path);
        }
        w->fd = openat(w->folder, w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (w->fd >= 0 && !lock_temporary(w->fd)) {
            close(w->fd);
            w->fd = -1;
            errno = EEXIST;
        }
        if (w->fd < 0 && errno != EEXIST) break;
    }
    if (w->fd >= 0) return CLD_OK;
    int reason = errno;
    free(w->temporary); /* not ours to remove */
    w->temporary = NULL;
    errno = reason;
    return held ? cld_folder_fail(held, "write", w->name) : fail_errno("write", w->path);
}

/* Gives the new file the old one's owner, group and permissions, as far as the system allows. */
static void keep_owner_and_mode(int fd, const struct stat *old) {
    struct stat own;
    mode_t mode = old->st_mode & 0777;
    bool differs = fstat(fd, &own) != 0 || own.st_uid != old->st_uid || own.st_gid != old->st_gid;
    if (differs && fchown(fd, old->st_uid, old->st_gid) != 0 && fchown(fd, (uid_t)-1, old->st_gid) != 0)
        mode = (mode & 0707) | (mode & 0007) << 3; /* another group: it gets everyone's permissions */
    fchmod(fd, mode);
}

/* `name` is relative to the folder `at`. If the file is in a held folder (`held`, else NULL), errors speak of that
 * folder. Takes over the writer's path, which is NULL if there was no memory for it. */
static cld_status start(cld_writer *w, int at, const char *name, const cld_folder *held) {
    struct stat facts;
    if (!w->path)
        w->status = cld_fail(CLD_NOMEM, "out of memory for the path '%s'", name);
    else if (!*name ||
             (fstatat(at, name, &facts, 0) == 0 && !S_ISREG(facts.st_mode))) /* rename would replace it */
        w->status = cld_fail(CLD_IO, "cannot write '%s': it is not a regular file", w->path);
    else
        w->status = find_place(w, at, name);
    if (w->status == CLD_OK) {
        bool is_link = strcmp(w->name, name) != 0;
        bool replaces = fstatat(w->folder, w->name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
        w->status = open_temporary(w, replaces ? 0600 : 0666, is_link ? NULL : held);
        if (w->status == CLD_OK && replaces) keep_owner_and_mode(w->fd, &facts);
    }
    cld_status status = w->status;
    if (status != CLD_OK) cld_writer_abandon(w);
    return status;
}

cld_status cld_writer_open(cld_writer *w, const char *path) {
    *w = (cld_writer){.folder = -1, .fd = -1, .path = strdup(path)};
    return start(w, AT_FDCWD, path, NULL);
}

cld_status cld_writer_open_in(cld_writer *w, const cld_folder *folder, const char *name) {
    *w = (cld_writer){.folder = -1, .fd = -1};
    if (asprintf(&w->path, "%s/%s", folder->path, name) < 0) w->path = NULL;
    return start(w, folder->fd, name, folder);
}

/* Sets errno on failure. */
static bool write_all(int fd, const char *from, size_t bytes) {
    while (bytes > 0) {
        ssize_t written = write(fd, from, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        from += written;
        bytes -= (size_t)written;
    }
    return true;
}

cld_status cld_writer_put(cld_writer *w, const void *data, size_t bytes) {
    if (w->status == CLD_OK && !write_all(w->fd, data, bytes)) w->status = fail_errno("write", w->path);
    return w->status;
}

cld_status cld_writer_patch(cld_writer *w, uint64_t offset, const void *data, size_t bytes) {
    const char *from = data;
    while (w->status == CLD_OK && bytes > 0) {
        ssize_t written = pwrite(w->fd, from, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return w->status = fail_errno("write", w->path);
        from += written;
        offset += (uint64_t)written;
        bytes -= (size_t)written;
    }
    return w->status;
}

static _Thread_local char warning[1024];

const char *cld_writer_warning(void) {
    static _Thread_local char given[sizeof warning];
    if (!*warning) return NULL;
    memcpy(given, warning, sizeof given);
    *warning = '\0';
    return given;
}

/* Makes the rename itself durable. The file is in place in any case, so a failure is only a warning. Nothing can be
 * done if the file system cannot flush folders (EINVAL), or if we may not read the folder and so cannot open it. */
static void flush_folder(const cld_writer *w) {
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    int fd = openat(w->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL && !atomic_flag_test_and_set(&warned))
        snprintf(warning, sizeof warning,
                 "'%s' is written and in place, but its folder cannot be flushed to the disk (%s): a power "
                 "cut may "
                 "bring back what was there before",
                 w->path, strerror(errno));
    if (fd >= 0) close(fd);
}

cld_status cld_writer_commit(cld_writer *w) {
    if (w->status == CLD_OK && fsync(w->fd) != 0) w->status = fail_errno("flush", w->path);
    if (w->status == CLD_OK && renameat(w->folder, w->temporary, w->folder, w->name) != 0)
        w->status = fail_errno("replace", w->path);
    if (w->status == CLD_OK) {
        free(w->temporary); /* renamed: nothing for abandon to remove */
        w->temporary = NULL;
        flush_folder(w);
    }
    cld_status status = w->status;
    cld_writer_abandon(w);
    return status;
}

void cld_writer_abandon(cld_writer *w) {
    if (w->temporary) unlinkat(w->folder, w->temporary, 0);
    if (w->fd >= 0) close(w->fd); /* flushed or abandoned: an error here tells nothing new */
    if (w->folder >= 0) close(w->folder);
    free(w->temporary);
    free(w->name);
    free(w->path);
    *w = (cld_writer){.folder = -1, .fd = -1, .status = w->status};
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Takes over fd. If it is negative, errno says why. */
static cld_status start_reading(cld_reader *r, int fd, const char *path) {
    struct stat facts;
    *r = (cld_reader){.fd = -1};
    if (fd < 0) return fail_errno("read", path);
    if (fstat(fd, &facts) != 0) {
        cld_status status = fail_errno("read", path);
        close(fd);
        return status;
    }
    char *copy = S_ISREG(facts.st_mode) ? strdup(path) : NULL;
    if (!copy) {
        close(fd);
        return S_ISREG(facts.st_mode) ? cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path)
                                      : cld_fail(CLD_IO, "cannot read '%s': it is not a regular file", path);
    }
    *r = (cld_reader){.path = copy, .fd = fd, .bytes = (uint64_t)facts.st_size};
    return CLD_OK;
}

#define TO_READ (O_RDONLY | O_NONBLOCK | O_CLOEXEC) /* a pipe without a writer would block */

cld_status cld_reader_open(cld_reader *r, const char *path) {
    return start_reading(r, open(path, TO_READ), path);
}

cld_status cld_reader_open_in(cld_reader *r, const cld_folder *folder, const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s", folder->path, name) < 0)
        return cld_fail(CLD_NOMEM, "out of memory for the path of '%s'", name);
    cld_status status = start_reading(r, openat(folder->fd, name, TO_READ), path);
    free(path);
    return status;
}

cld_status cld_reader_get(cld_reader *r, void *data, uint64_t offset, size_t bytes) {
    char *to = data;
    while (bytes > 0) {
        ssize_t got = pread(r->fd, to, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read", r->path);
        if (got == 0)
            return cld_fail(CLD_IO, "cannot read '%s': it ends at byte %llu, %zu bytes early", r->path,
                            (unsigned long long)offset, bytes);
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return CLD_OK;
}

void cld_reader_close(cld_reader *r) {
    if (r->fd >= 0) close(r->fd);
    free(r->path);
    *r = (cld_reader){.fd = -1};
}

/* ---- appending lines ----------------------------------------------------------------------------------- */

/* Whether the file ends in the middle of a line. */
static bool is_torn(int fd, const struct stat *facts) {
    char last = '\n';
    return S_ISREG(facts->st_mode) && facts->st_size > 0 && pread(fd, &last, 1, facts->st_size - 1) == 1 &&
           last != '\n';
}

cld_status cld_append_line(const cld_folder *folder, const char *name, const char *line, size_t bytes) {
    struct stat facts;
    int fd = openat(folder->fd, name, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    if (fd < 0) return cld_folder_fail(folder, "write", name);
    cld_status status = CLD_OK;
    char *text = malloc(bytes + 2);
    if (!text) {
        status = cld_fail(CLD_NOMEM, "out of memory for a line of '%s/%s'", folder->path, name);
    } else if (fstat(fd, &facts) != 0 || !(S_ISREG(facts.st_mode) || S_ISCHR(facts.st_mode))) {
        status = cld_fail(CLD_IO, "cannot write '%s/%s': it is not a regular file", folder->path, name);
    } else if (bytes > 0) {
        size_t length = 0;
        if (is_torn(fd, &facts)) text[length++] = '\n';
        memcpy(text + length, line, bytes);
        length += bytes;
        text[length++] = '\n';
        if (!write_all(fd, text, length)) status = cld_folder_fail(folder, "write", name);
    }
    free(text);
    close(fd);
    return status;
}
