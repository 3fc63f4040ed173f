/* Zip archives written. The contract is in zip_write.h. */
#include "runtime/io/zip_write.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { ALIGNMENT = 64, LOCAL_HEADER = 30, CENTRAL_HEADER = 46, END_RECORD = 22, EXTRA_HEADER = 4 };
enum { MOST_MEMBERS = 65535 };
#define MOST_BYTES ((uint64_t)UINT32_MAX)

typedef struct member {
    char *name;
    uint32_t crc, bytes, offset;
} member;

struct cld_zip_writer {
    cld_writer file;
    uint64_t at; /* bytes written */
    member *members;
    size_t count, room;
};

cld_zip_writer *cld_zip_create(const char *path) {
    cld_zip_writer *z = calloc(1, sizeof *z);
    if (!z) return cld_fail_null(CLD_NOMEM, "cannot write '%s': out of memory", path);
    if (cld_writer_open(&z->file, path) == CLD_OK) return z;
    free(z);
    return NULL;
}

void cld_zip_spoil(cld_zip_writer *z, cld_status status) {
    if (z->file.status == CLD_OK) z->file.status = status;
}

static void put(cld_zip_writer *z, const void *data, size_t bytes) {
    cld_writer_put(&z->file, data, bytes);
    z->at += bytes;
}

static unsigned char *put16(unsigned char *to, unsigned value) {
    to[0] = (unsigned char)value;
    to[1] = (unsigned char)(value >> 8);
    return to + 2;
}

static unsigned char *put32(unsigned char *to, uint32_t value) {
    return put16(put16(to, value & 0xffff), value >> 16);
}

/* What local and central headers share: version, flags, method, time, date, checksum, sizes, the lengths of what follows. */
static unsigned char *put_facts(unsigned char *to, const member *m, unsigned extra) {
    to = put16(to, 20);
    to = put16(to, 0);
    to = put16(to, 0);    /* stored */
    to = put16(to, 0);    /* 0:00 */
    to = put16(to, 0x21); /* of 1980-01-01 */
    to = put32(to, m->crc);
    to = put32(to, m->bytes);
    to = put32(to, m->bytes);
    to = put16(to, (unsigned)strlen(m->name));
    return put16(to, extra);
}

/* The header, its name, and a field of padding up to the next multiple of the alignment. */
static void put_local(cld_zip_writer *z, const member *m) {
    unsigned char header[LOCAL_HEADER] = {'P', 'K', 3, 4}, padding[EXTRA_HEADER + ALIGNMENT];
    size_t name = strlen(m->name);
    size_t over = (size_t)((z->at + LOCAL_HEADER + name + EXTRA_HEADER) % ALIGNMENT);
    size_t fill = over ? ALIGNMENT - over : 0;
    put_facts(header + 4, m, (unsigned)(EXTRA_HEADER + fill));
    memset(padding, 'Z', sizeof padding);
    memcpy(padding, "FB", 2); /* the field's name, as PyTorch gives it */
    put16(padding + 2, (unsigned)fill);
    put(z, header, sizeof header);
    put(z, m->name, name);
    put(z, padding, EXTRA_HEADER + fill);
}

static cld_status fail_large(cld_zip_writer *z) {
    cld_zip_spoil(z, cld_fail(CLD_UNSUPPORTED,
                              "cannot write '%s': it would have 4 GiB or more, and zip archives "
                              "of that size are not written",
                              z->file.path));
    return z->file.status;
}

static member *new_member(cld_zip_writer *z, const char *name) {
    if (z->count == z->room) {
        size_t room = z->room ? 2 * z->room : 64;
        member *grown = realloc(z->members, room * sizeof *grown);
        if (!grown) return NULL;
        z->members = grown;
        z->room = room;
    }
    member *m = &z->members[z->count];
    m->name = strdup(name);
    if (m->name) z->count++;
    return m->name ? m : NULL;
}

/* zlib takes 32 bits of a length at once. */
static uint32_t checksum(const unsigned char *data, size_t bytes) {
    uLong crc = crc32(0, NULL, 0);
    while (bytes > 0) {
        uInt part = bytes < 1u << 30 ? (uInt)bytes : 1u << 30;
        crc = crc32(crc, data, part);
        data += part;
        bytes -= part;
    }
    return (uint32_t)crc;
}

cld_status cld_zip_put(cld_zip_writer *z, const char *name, const void *data, size_t bytes) {
    if (z->file.status != CLD_OK) return z->file.status;
    size_t header = LOCAL_HEADER + strlen(name) + EXTRA_HEADER + ALIGNMENT;
    if (bytes > MOST_BYTES || z->at + header + bytes > MOST_BYTES || z->count == MOST_MEMBERS)
        return fail_large(z);
    member *m = new_member(z, name);
    if (!m) {
        cld_zip_spoil(z, cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", z->file.path));
        return z->file.status;
    }
    m->crc = checksum(data, bytes);
    m->bytes = (uint32_t)bytes;
    m->offset = (uint32_t)z->at;
    put_local(z, m);
    put(z, data, bytes);
    return z->file.status;
}

/* The directory at the end. */
static void put_directory(cld_zip_writer *z) {
    unsigned char end[END_RECORD] = {'P', 'K', 5, 6};
    uint64_t begin = z->at;
    for (size_t i = 0; i < z->count; i++) {
        const member *m = &z->members[i];
        unsigned char header[CENTRAL_HEADER] = {'P', 'K', 1, 2, 20};
        put_facts(header + 6, m, 0);
        put32(header + 42, m->offset);
        put(z, header, sizeof header);
        put(z, m->name, strlen(m->name));
    }
    if (z->at > MOST_BYTES) {
        (void)fail_large(z);
        return;
    }
    put16(put16(end + 8, (unsigned)z->count), (unsigned)z->count);
    put32(put32(end + 12, (uint32_t)(z->at - begin)), (uint32_t)begin);
    put(z, end, sizeof end);
}

cld_status cld_zip_commit(cld_zip_writer *z) {
    if (z->file.status == CLD_OK) put_directory(z);
    cld_status status = cld_writer_commit(&z->file);
    for (size_t i = 0; i < z->count; i++) free(z->members[i].name);
    free(z->members);
    free(z);
    return status;
}
