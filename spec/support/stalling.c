/* A disk that stalls: read() of a file whose path ends with $STALL_NAME takes $STALL_SECONDS, whatever signals come,
 * and creates the file $STALL_STARTED when it begins. If $STALL_ONCE is set it stalls only once. A library for
 * LD_PRELOAD, used by loader_stalls_spec.lua. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int stalls(int fd) {
    static atomic_int before;
    const char *name = getenv("STALL_NAME");
    char link[64], path[4096];
    if (!name) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t end = strlen(name);
    if (length < (ssize_t)end || memcmp(path + length - end, name, end) != 0) return 0;
    return atomic_fetch_add(&before, 1) == 0 || !getenv("STALL_ONCE");
}

ssize_t read(int fd, void *to, size_t bytes) {
    ssize_t (*real)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (stalls(fd)) {
        const char *started = getenv("STALL_STARTED"), *seconds = getenv("STALL_SECONDS");
        int note = started ? open(started, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
        if (note >= 0) close(note);
        double length = seconds ? atof(seconds) : 1;
        struct timespec left = {(time_t)length, (long)((length - (double)(time_t)length) * 1e9)};
        while (nanosleep(&left, &left) != 0) continue;
    }
    return real(fd, to, bytes);
}
