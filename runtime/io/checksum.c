/* The MD5 of a file, computed in time slices. */
#include "runtime/io/checksum.h"

#include <stdlib.h>

#include "runtime/core/md5.h"
#include "runtime/core/process.h"
#include "runtime/io/file.h"

struct cld_checksum {
    cld_reader reader;
    uint64_t read;
    cld_md5 sum;
    unsigned char buffer[1 << 18];
};

cld_checksum *cld_checksum_new(const char *path) {
    cld_checksum *c = malloc(sizeof *c);
    if (!c) return cld_fail_null(CLD_NOMEM, "out of memory to read '%s'", path);
    if (cld_reader_open(&c->reader, path) != CLD_OK) {
        free(c);
        return NULL;
    }
    c->read = 0;
    cld_md5_begin(&c->sum);
    return c;
}

cld_status cld_checksum_step(cld_checksum *c, double seconds, uint64_t *read, bool *done, char hex[33]) {
    double end = cld_clock() + seconds;
    while (c->read < c->reader.bytes && cld_clock() < end) {
        uint64_t left = c->reader.bytes - c->read;
        size_t bytes = left < sizeof c->buffer ? (size_t)left : sizeof c->buffer;
        CLD_TRY(cld_reader_get(&c->reader, c->buffer, c->read, bytes));
        cld_md5_add(&c->sum, c->buffer, bytes);
        c->read += bytes;
    }
    *read = c->read;
    *done = c->read == c->reader.bytes;
    if (*done) cld_md5_end(&c->sum, hex);
    return CLD_OK;
}

void cld_checksum_free(cld_checksum *c) {
    if (!c) return;
    cld_reader_close(&c->reader);
    free(c);
}
