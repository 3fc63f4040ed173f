/* A file system that fails, or that others write to, on demand. A library for LD_PRELOAD, which files_spec.lua and
 * run_folder_spec.lua control by environment variables:
 *
 *     FAIL_FOLDER_FSYNC=5     fsync of a folder fails with this errno
 *     FAIL_FOLDER_FLOCK=22    so does flock of a folder
 *     BUSY_FOLDER_FLOCK=3     the first three calls find that another holds the folder
 *     FAIL_LINK=95            so does linkat
 *     BEFORE_FOLDER_FLOCK, AFTER_FOLDER_FLOCK, BEFORE_RENAME, AFTER_LINK
 *                             a shell command, run once, just before or after the first call of that kind
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_folder(int fd) {
    struct stat facts;
    return fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode);
}

static void run_once(const char *name) {
    char *command = getenv(name);
    if (!command) return;
    unsetenv("LD_PRELOAD"); /* the command uses the plain file system */
    int reason = errno, result = system(command);
    unsetenv(name);
    errno = reason;
    if (result != 0) abort();
}

static int failure(const char *name) {
    char *number = getenv(name);
    if (number) errno = atoi(number);
    return number != NULL;
}

/* Whether a call is one of the first so many that the variable asks for. */
static int is_busy(const char *name) {
    static int calls;
    char *number = getenv(name);
    if (!number || calls++ >= atoi(number)) return 0;
    errno = EWOULDBLOCK;
    return 1;
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return is_folder(fd) && failure("FAIL_FOLDER_FSYNC") ? -1 : real(fd);
}

int flock(int fd, int operation) {
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    if (!is_folder(fd)) return real(fd, operation);
    run_once("BEFORE_FOLDER_FLOCK");
    int result = failure("FAIL_FOLDER_FLOCK") || is_busy("BUSY_FOLDER_FLOCK") ? -1 : real(fd, operation);
    run_once("AFTER_FOLDER_FLOCK");
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    int (*real)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    run_once("BEFORE_RENAME");
    return real(from_folder, from, to_folder, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    int (*real)(int, const char *, int, const char *, int) =
        (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
    int result = failure("FAIL_LINK") ? -1 : real(from_folder, from, to_folder, to, flags);
    run_once("AFTER_LINK");
    return result;
}
