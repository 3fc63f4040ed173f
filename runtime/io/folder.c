/* Creating, listing and holding folders. The contract is in folder.h. */
#define _GNU_SOURCE
#include "runtime/io/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* How many times a path is looked up again if others remove what it names. */
#define MOST_TRIES 100

/* How often a folder that is in use is tried again: cld_folder_in_use shares its lock for a moment. */
#define MOST_LOOKS 10
static const struct timespec a_look = {.tv_nsec = 10000000};

static cld_status fail_errno(const char *doing, const char *path) {
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot %s '%s': %s", doing, path, strerror(errno));
}

/* ---- paths --------------------------------------------------------------------------------------------- */

static cld_path_kind kind_of(const struct stat *facts) {
    return S_ISREG(facts->st_mode)   ? CLD_PATH_FILE
           : S_ISDIR(facts->st_mode) ? CLD_PATH_FOLDER
                                     : CLD_PATH_OTHER;
}

cld_path_kind cld_path(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 ? kind_of(&facts) : CLD_PATH_NONE;
}

/* Sets errno on failure. */
static bool make_one(const char *path, unsigned mode, unsigned *made) {
    if (mkdir(path, mode) == 0) {
        ++*made;
        return true;
    }
    int reason = errno;
    *made = 0; /* count only the names after one that existed */
    if (cld_path(path) == CLD_PATH_FOLDER) return true;
    errno = reason;
    return false;
}

/* *made: how many of the path's last names this call created. */
static cld_status make_folders(const char *path, unsigned mode, unsigned *made) {
    char *prefix = strdup(path);
    if (!prefix) return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    bool ok = true;
    int tries = 0;
    do {
        *made = 0;
        ok = true;
        for (char *end = prefix; *end && ok; end++) {
            if (*end != '/' || end == prefix || end[1] == '/' || end[1] == '\0') continue;
            *end = '\0';
            ok = make_one(prefix, mode, made);
            if (ok) *end = '/';
        }
        ok = ok && make_one(prefix, mode, made);
        if (!ok && errno == ENOENT && tries < MOST_TRIES)
            strcpy(prefix, path); /* a parent was removed meanwhile */
    } while (!ok && errno == ENOENT && tries++ < MOST_TRIES);
    cld_status status = ok ? CLD_OK : fail_errno("make the folder", prefix);
    free(prefix);
    return status;
}

cld_status cld_make_folder(const char *path, unsigned mode, bool *created) {
    unsigned made;
    cld_status status = make_folders(path, mode, &made);
    *created = status == CLD_OK && made > 0;
    return status;
}

/* ---- lists --------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Takes over name, which is NULL if there was no memory for it. */
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

/* Closes the folder. If it is NULL, errno says why. */
static cld_status list(DIR *folder, const char *path, char ***names, size_t *count) {
    size_t room = 0;
    cld_status status = CLD_OK;
    *names = NULL;
    *count = 0;
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

cld_status cld_list_folder(const char *path, char ***names, size_t *count) {
    return list(opendir(path), path, names, count);
}

void cld_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* ---- held folders -------------------------------------------------------------------------------------- */

static bool is_named_by(int fd, const char *path) {
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

/* The absolute path; if the working folder has no path, the path as it is. */
static char *absolute_path(const char *path) {
    char *working = *path == '/' ? NULL : getcwd(NULL, 0), *absolute;
    if (!working) return strdup(path);
    if (asprintf(&absolute, "%s/%s", working, path) < 0) absolute = NULL;
    free(working);
    return absolute;
}

/* Errors of flock on a file system without locks, or without locks for folders. */
static bool cannot_lock(int reason) {
    return reason == EINVAL || reason == ENOLCK || reason == ENOSYS || reason == EOPNOTSUPP ||
           reason == EBADF;
}

typedef enum attempt { HELD, IN_USE, NONE, REPLACED, FAILED } attempt;

/* Takes the lock unless another holds it for longer than a look. Sets errno on failure. */
static bool lock(int fd) {
    for (int looks = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; looks++) {
        if (errno != EWOULDBLOCK || looks == MOST_LOOKS) return false;
        nanosleep(&a_look, NULL);
    }
    return true;
}

/* Whether the locks of other machines and of other kernels show: not on network file systems and FUSE. The numbers are
 * those of linux/magic.h and of the file systems' sources. */
static bool shows_all_locks(int fd) {
    static const unsigned long kinds[] = {
        0xEF53 /* ext2 to ext4 */, 0x58465342 /* XFS */,   0x9123683E /* Btrfs */,
        0x2FC12FC1 /* ZFS */,      0xF2F52010 /* F2FS */,  0xCA451A4E /* bcachefs */,
        0x01021994 /* tmpfs */,    0x858458F6 /* ramfs */, 0x794C7630 /* overlayfs */,
    };
    struct statfs facts;
    if (fstatfs(fd, &facts) != 0) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (((unsigned long)facts.f_type & 0xFFFFFFFF) == kinds[i]) return true;
    return false;
}

cld_folder_use cld_folder_in_use(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return CLD_FOLDER_UNKNOWN;
    bool is_free = flock(fd, LOCK_SH | LOCK_NB) == 0, is_held = !is_free && errno == EWOULDBLOCK;
    cld_folder_use use = is_held                          ? CLD_FOLDER_HELD
                         : is_free && shows_all_locks(fd) ? CLD_FOLDER_FREE
                                                          : CLD_FOLDER_UNKNOWN;
    close(fd);
    return use;
}

/* Tries once. NONE: the path names nothing. REPLACED: it now names something else than what was opened. */
static attempt try_to_hold(cld_folder *f) {
    f->fd = open(f->absolute, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0) return errno == ENOENT ? NONE : FAILED;
    f->locked = lock(f->fd);
    int reason = errno;
    attempt result = f->locked || cannot_lock(reason) ? HELD : reason == EWOULDBLOCK ? IN_USE : FAILED;
    if (!is_named_by(f->fd, f->absolute)) result = REPLACED;
    if (result != HELD) {
        close(f->fd);
        f->fd = -1;
    }
    errno = reason;
    return result;
}

static cld_status hold(cld_folder *f, const char *path, bool make) {
    *f = (cld_folder){.fd = -1, .path = strdup(path), .absolute = absolute_path(path)};
    cld_status status = CLD_OK;
    attempt result = REPLACED;
    if (!f->path || !f->absolute) status = cld_fail(CLD_NOMEM, "out of memory for the path '%s'", path);
    for (int tries = 0; status == CLD_OK && tries < MOST_TRIES; tries++) {
        if (make) status = make_folders(path, 0777, &f->made);
        if (status == CLD_OK) result = try_to_hold(f);
        if (result != REPLACED && (result != NONE || !make)) break;
    }
    if (status == CLD_OK && result != HELD && result != IN_USE) status = fail_errno("lock the folder", path);
    if (status == CLD_OK && result == HELD && faccessat(f->fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        status = fail_errno("write in the folder", path);
    if (f->fd < 0 || status != CLD_OK) cld_folder_close(f);
    return status;
}

cld_status cld_folder_open(cld_folder *f, const char *path) { return hold(f, path, false); }
cld_status cld_folder_claim(cld_folder *f, const char *path) { return hold(f, path, true); }

/* Removes nothing without a lock, since others may be using the folder, and nothing if the path now names another. */
static void remove_what_was_made(cld_folder *f) {
    if (!f->locked || !is_named_by(f->fd, f->absolute)) return;
    char *path = f->absolute, *end = path + strlen(path);
    for (; f->made > 0; f->made--) {
        while (end > path + 1 && end[-1] == '/') *--end = '\0';
        if (rmdir(path) != 0) return; /* not empty */
        while (end > path && end[-1] != '/') *--end = '\0';
    }
}

void cld_folder_close(cld_folder *f) {
    if (f->fd >= 0) {
        remove_what_was_made(f);
        close(f->fd);
    }
    free(f->path);
    free(f->absolute);
    *f = (cld_folder){.fd = -1};
}

char *cld_folder_where(const cld_folder *f) {
    struct stat facts;
    char link[64], place[PATH_MAX];
    if (fstat(f->fd, &facts) != 0 || facts.st_nlink == 0) return NULL;
    if (is_named_by(f->fd, f->absolute)) return strdup(f->path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
    ssize_t length = readlink(link, place, sizeof place);
    return length > 0 && (size_t)length < sizeof place ? strndup(place, (size_t)length) : strdup(f->path);
}

cld_path_kind cld_folder_has(const cld_folder *f, const char *name) {
    struct stat facts;
    return fstatat(f->fd, name, &facts, 0) == 0 ? kind_of(&facts) : CLD_PATH_NONE;
}

cld_status cld_folder_list(const cld_folder *f, char ***names, size_t *count) {
    int fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with its own read position */
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (!folder && fd >= 0) close(fd);
    return list(folder, f->path, names, count);
}

void cld_folder_remove_leftover(const cld_folder *f, const char *temporary) {
    struct stat facts;
    int fd = openat(f->fd, temporary, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(f->fd, temporary, 0);
    close(fd);
}

cld_status cld_folder_fail(const cld_folder *f, const char *doing, const char *name) {
    struct stat facts;
    int reason = errno;
    bool gone =
        (reason == ENOENT || reason == ESTALE) && fstatat(f->fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0;
    if (gone)
        return cld_fail(CLD_IO, "cannot %s '%s/%s': the folder was removed or replaced while it was in use",
                        doing, f->path, name);
    return cld_fail(reason == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot %s '%s/%s': %s", doing, f->path, name,
                    strerror(reason));
}
