/* Reading a whole file. The contract is in slurp.h. */
#define _GNU_SOURCE
#include "runtime/io/slurp.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Running out of memory or descriptors is the process's fault, not the file's. */
static cld_status fail_errno(void) {
    bool shortage = errno == ENOMEM || errno == EMFILE || errno == ENFILE;
    return cld_fail(shortage ? CLD_NOMEM : CLD_IO, "cannot be read: %s", strerror(errno));
}

static const char *kind(mode_t mode) {
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

static bool was_changed(const struct stat *before, const struct stat *after) {
    return before->st_size != after->st_size || before->st_mtim.tv_sec != after->st_mtim.tv_sec ||
           before->st_mtim.tv_nsec != after->st_mtim.tv_nsec;
}

static cld_status slurp(cld_scratch *s, size_t *length, int fd) {
    struct stat before, after;
    if (fstat(fd, &before) != 0) return fail_errno();
    if (!S_ISREG(before.st_mode)) return cld_fail(CLD_IO, "%s, not a regular file", kind(before.st_mode));
    if ((uint64_t)before.st_size > CLD_SLURP_MAX)
        return cld_fail(CLD_IO, "a file of %.1f GiB; at most %.0f GiB can be read",
                        (double)before.st_size / 0x1p30, (double)CLD_SLURP_MAX / 0x1p30);
    size_t bytes = (size_t)before.st_size, got = 0;
    if (!cld_scratch_reserve(s, bytes + 1)) return CLD_NOMEM; /* one more, to see that the file ends there */
    while (got <= bytes) {
        ssize_t now = read(fd, s->data + got, bytes + 1 - got);
        if (now < 0 && errno == EINTR) continue;
        if (now < 0) return fail_errno();
        if (now == 0) break;
        got += (size_t)now;
    }
    if (fstat(fd, &after) != 0) return fail_errno();
    if (got != bytes || was_changed(&before, &after))
        return cld_fail(CLD_IO, "was written to while it was read");
    *length = bytes;
    return CLD_OK;
}

cld_status cld_file_slurp(cld_scratch *s, size_t *length, int folder, const char *path) {
    int fd = openat(folder, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENXIO) return cld_fail(CLD_IO, "a socket or a device, not a regular file");
    if (fd < 0) return fail_errno();
    cld_status status = slurp(s, length, fd);
    close(fd);
    return status;
}
