/* Reading and writing whole files, and folders. The contract is in file.h. */
#define _GNU_SOURCE
#include "runtime/io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Linux moves at most this much in one call. */
#define MOST_AT_ONCE ((size_t)0x7ffff000)

static cld_status fail_errno(const char *doing, const char *path) {
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot %s '%s': %s", doing, path, strerror(errno));
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* The folder that holds path, as a new string. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

cld_status cld_writer_open(cld_writer *w, const char *path) {
    *w = (cld_writer){.fd = -1};
    /* The process's number keeps two processes that save to one path out of each other's file. */
    if (asprintf(&w->temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) w->temporary = NULL;
    w->path = strdup(path);
    if (!w->path || !w->temporary) {
        w->status = cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    } else if (cld_path(path) == CLD_PATH_FOLDER ||
               cld_path(path) == CLD_PATH_OTHER) { /* rename would replace it */
        w->status = cld_fail(CLD_IO, "cannot write '%s': it is not a regular file", path);
    } else {
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (w->fd < 0) w->status = fail_errno("write", path);
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

/* Makes the rename itself durable. A file system that cannot flush a folder says EINVAL: nothing to be done. */
static cld_status flush_folder(const char *path) {
    char *folder = folder_of(path);
    if (!folder) return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    cld_status status = CLD_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL) status = fail_errno("flush the folder of", path);
    if (fd >= 0) close(fd);
    free(folder);
    return status;
}

cld_status cld_writer_commit(cld_writer *w) {
    if (w->status == CLD_OK && fsync(w->fd) != 0) w->status = fail_errno("flush", w->path);
    if (w->status == CLD_OK) {
        int fd = w->fd;
        w->fd = -1;
        if (close(fd) != 0) w->status = fail_errno("write", w->path);
    }
    if (w->status == CLD_OK && rename(w->temporary, w->path) != 0) w->status = fail_errno("replace", w->path);
    if (w->status == CLD_OK) {
        free(w->temporary); /* renamed: nothing for abandon to remove */
        w->temporary = NULL;
        w->status = flush_folder(w->path);
    }
    cld_status status = w->status;
    cld_writer_abandon(w);
    return status;
}

void cld_writer_abandon(cld_writer *w) {
    if (w->fd >= 0) close(w->fd);
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (cld_writer){.fd = -1, .status = w->status};
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
