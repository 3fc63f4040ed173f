/* Reading and writing whole files, and folders. The contract is in file.h. */
#define _GNU_SOURCE
#include "runtime/io/file.h"

#include <dirent.h>
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

/* The symbolic links that lead to a file, at most: the kernel's own limit. */
#define MOST_LINKS 40

/* Of a name in its folder, where the temporary's must fit as well. */
#define TEMPORARY_FORMAT "%.*s.%016llx.tmp"
#define MOST_OF_NAME     (NAME_MAX - 1 - 16 - 4)

static cld_status fail_place(const char *path, const char *target) {
    if (!target) return fail_errno("write", path);
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot write '%s', a symbolic link to '%s': %s",
                    path, target, strerror(errno));
}

/* Opens the folder of `path`, which is relative to the folder `at`, and takes the name off the path: *name is what
 * follows the last slash. */
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

/* Fills in the writer's folder and name: those of the file that its path leads to from the folder `at`. */
static cld_status find_place(cld_writer *w, int at) {
    char target[PATH_MAX]; /* of the last link */
    bool is_link = false;
    for (int links = 0; links <= MOST_LINKS; links++) {
        const char *name;
        char *path = strdup(is_link ? target : w->path);
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
        if (length < 0 && (errno == EINVAL || errno == ENOENT)) return CLD_OK; /* no link, or nothing yet */
        if (length < 0) return fail_place(w->path, is_link ? target : NULL);
        target[length] = '\0';
        is_link = true;
    }
    errno = ELOOP;
    return fail_errno("write", w->path);
}

/* Whether the temporary just made is ours alone: whoever clears up may have found it before it was locked. A file
 * system without locks has nothing cleared up. */
static bool lock_temporary(int fd) {
    struct stat facts;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
    return fstat(fd, &facts) == 0 && facts.st_nlink > 0;
}

static cld_status open_temporary(cld_writer *w, mode_t mode) {
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
    free(w->temporary); /* not ours to remove */
    w->temporary = NULL;
    return fail_errno("write", w->path);
}

/* The new file's owner, group and permissions: the old one's, as far as the system allows. */
static void keep_owner_and_mode(int fd, const struct stat *old) {
    struct stat own;
    mode_t mode = old->st_mode & 0777;
    bool differs = fstat(fd, &own) != 0 || own.st_uid != old->st_uid || own.st_gid != old->st_gid;
    if (differs && fchown(fd, old->st_uid, old->st_gid) != 0 && fchown(fd, (uid_t)-1, old->st_gid) != 0)
        mode = (mode & 0707) | (mode & 0007) << 3; /* another group: it may do what all may */
    fchmod(fd, mode);
}

cld_status cld_writer_open(cld_writer *w, const char *path) {
    struct stat facts;
    *w = (cld_writer){.folder = -1, .fd = -1, .path = strdup(path)};
    if (!w->path)
        w->status = cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    else if (!*path || (stat(path, &facts) == 0 && !S_ISREG(facts.st_mode))) /* rename would replace it */
        w->status = cld_fail(CLD_IO, "cannot write '%s': it is not a regular file", path);
    else
        w->status = find_place(w, AT_FDCWD);
    if (w->status == CLD_OK) {
        bool replaces = fstatat(w->folder, w->name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
        w->status = open_temporary(w, replaces ? 0600 : 0666);
        if (w->status == CLD_OK && replaces) keep_owner_and_mode(w->fd, &facts);
    }
    cld_status status = w->status;
    if (status != CLD_OK) cld_writer_abandon(w);
    return status;
}

cld_status cld_writer_put(cld_writer *w, const void *data, size_t bytes) {
    const char *from = data;
    while (w->status == CLD_OK && bytes > 0) {
        ssize_t written = write(w->fd, from, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) {
            w->status = fail_errno("write", w->path);
        } else {
            from += written;
            bytes -= (size_t)written;
        }
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

/* Makes the rename itself durable. The file is in place whatever comes of it, so a failure is a warning; a file system
 * that cannot flush a folder says EINVAL, and a folder that may not be read cannot be: nothing to be done. */
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
    if (w->fd >= 0) close(w->fd); /* flushed or given up: an error here says nothing new */
    if (w->folder >= 0) close(w->folder);
    free(w->temporary);
    free(w->name);
    free(w->path);
    *w = (cld_writer){.folder = -1, .fd = -1, .status = w->status};
}

/* ---- reading ------------------------------------------------------------------------------------------- */

cld_status cld_reader_open(cld_reader *r, const char *path) {
    struct stat facts;
    *r = (cld_reader){.fd = -1};
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe without a writer would block */
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

/* ---- folders ------------------------------------------------------------------------------------------- */

cld_path_kind cld_path(const char *path) {
    struct stat facts;
    if (stat(path, &facts) != 0) return CLD_PATH_NONE;
    return S_ISREG(facts.st_mode) ? CLD_PATH_FILE : S_ISDIR(facts.st_mode) ? CLD_PATH_FOLDER : CLD_PATH_OTHER;
}

static cld_status make_one(const char *path, unsigned mode, bool *created) {
    *created = mkdir(path, mode) == 0;
    int reason = errno;
    if (*created || cld_path(path) == CLD_PATH_FOLDER) return CLD_OK;
    errno = reason;
    return fail_errno("make the folder", path);
}

cld_status cld_make_folder(const char *path, unsigned mode, bool *created) {
    char *prefix = strdup(path);
    cld_status status = CLD_OK;
    *created = false;
    if (!prefix) return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    for (char *end = prefix; *end && status == CLD_OK; end++) {
        bool parent_is_new;
        if (*end != '/' || end == prefix || end[1] == '/' || end[1] == '\0') continue;
        *end = '\0';
        status = make_one(prefix, mode, &parent_is_new);
        *end = '/';
    }
    if (status == CLD_OK) status = make_one(prefix, mode, created);
    free(prefix);
    return status;
}

cld_status cld_lock_folder(const char *path, int *lock) {
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return fail_errno("lock the folder", path);
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return CLD_OK;
    int reason = errno;
    close(*lock);
    *lock = -1;
    errno = reason;
    return reason == EWOULDBLOCK ? CLD_OK : fail_errno("lock the folder", path);
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Takes over name, which may be NULL: out of memory. */
static bool append(char ***names, size_t *count, size_t *room, char *name) {
    if (name && *count == *room) {
        size_t wanted = *room ? 2 * *room : 64;
        char **grown = realloc(*names, wanted * sizeof *grown);
        if (!grown) {
            free(name);
            return false;
        }
        *names = grown;
        *room = wanted;
    }
    if (name) (*names)[(*count)++] = name;
    return name != NULL;
}

cld_status cld_list_folder(const char *path, char ***names, size_t *count) {
    size_t room = 0;
    cld_status status = CLD_OK;
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return fail_errno("list the folder", path);
    while (status == CLD_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry && errno) status = fail_errno("list the folder", path);
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!append(names, count, &room, strdup(entry->d_name)))
            status = cld_fail(CLD_NOMEM, "out of memory for the names in '%s'", path);
    }
    closedir(folder);
    if (status == CLD_OK && *count) qsort(*names, *count, sizeof **names, by_bytes);
    if (status != CLD_OK) {
        cld_free_names(*names, *count);
        *names = NULL;
        *count = 0;
    }
    return status;
}

void cld_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}
