/* Passes on to this process's output what mpirun prints. mpirun itself would take a pipe that its reader has closed
 * (`| head`) for a fault of its own, and leave standard output non-blocking for all who share it. */
#define _GNU_SOURCE
#include "bindings/interpreter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

/* Standard output and error share one pipe if they are one file, so that what is printed stays in order. */
static bool same_file(int a, int b) {
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool open_pipe(cldL_relay *r, int to) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    r->ways[r->count++] = (cldL_way){.to = to, .from = ends[0], .into = ends[1]};
    return true;
}

bool cldL_relay_open(cldL_relay *r) {
    *r = (cldL_relay){.count = 0};
    if (open_pipe(r, STDOUT_FILENO) &&
        (same_file(STDOUT_FILENO, STDERR_FILENO) || open_pipe(r, STDERR_FILENO)))
        return true;
    int why = errno;
    cldL_relay_begin(r);
    cldL_relay_end(r);
    errno = why;
    return false;
}

bool cldL_relay_enter(const cldL_relay *r) {
    return dup2(r->ways[0].into, STDOUT_FILENO) >= 0 && dup2(r->ways[r->count - 1].into, STDERR_FILENO) >= 0;
}

void cldL_relay_begin(cldL_relay *r) {
    for (int i = 0; i < r->count; i++) close(r->ways[i].into);
}

void cldL_relay_end(cldL_relay *r) {
    for (int i = 0; i < r->count; i++)
        if (r->ways[i].from >= 0) close(r->ways[i].from);
}

/* False if the reader is gone. */
static bool write_all(int to, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = write(to, bytes, size);
        if (n < 0 && errno == EAGAIN) poll(&(struct pollfd){.fd = to, .events = POLLOUT}, 1, -1);
        if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
        if (n > 0) bytes += n, size -= (size_t)n;
    }
    return true;
}

/* Reads once from a way that has something to read, or has ended, and writes that. */
static void pass_on(cldL_way *way, bool *broken) {
    char bytes[1 << 16];
    ssize_t n = read(way->from, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) return;
    if (n <= 0) {
        close(way->from);
        way->from = -1;
    } else if (!way->gone && !write_all(way->to, bytes, (size_t)n)) {
        way->gone = true; /* whatever else comes is read and dropped */
        *broken |= errno == EPIPE;
    }
}

bool cldL_relay_wait(cldL_relay *r, const struct timespec *longest, const sigset_t *mask, bool *broken) {
    struct pollfd polled[2];
    int open = 0;
    for (int i = 0; i < r->count; i++) {
        polled[i] = (struct pollfd){.fd = r->ways[i].from, .events = POLLIN};
        open += r->ways[i].from >= 0;
    }
    int ready = ppoll(polled, (nfds_t)r->count, longest, mask);
    for (int i = 0; i < r->count && ready > 0; i++)
        if (polled[i].revents) pass_on(&r->ways[i], broken);
    return ready > 0 && open > 0;
}
