/* Writing zip archives (PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.14 to 16). The contract is in zip_write.h. */
#include "runtime/io/zip_write.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "runtime/core/text.h"

#define MOST_OF_NAME 65000u
#define IN_ZIP64     0xFFFFFFFFu

enum { ALIGNMENT = 64, LOCAL_HEADER = 30, SIZES_FIELD = 20, PADDING_HEADER = 4, PLACES_FIELD = 28 };
enum { ZIP64 = 45, UTF8_NAME = 1 << 11, STORED = 0, FIRST_OF_1980 = 1 << 5 | 1 };

typedef struct member {
    char *name;
    uint64_t begin, bytes; /* the local header's offset; the content's size */
    uint32_t crc;
    unsigned extra; /* bytes of the fields after the local header's name */
} member;

struct cld_zip_writer {
    cld_writer file;
    uint64_t at; /* bytes written */
    member *members;
    size_t count, room;
    uint64_t given; /* of the last member */
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

cld_status cld_zip_status(const cld_zip_writer *z) { return z->file.status; }

static cld_status spoiled(cld_zip_writer *z, cld_status status) {
    cld_zip_spoil(z, status);
    return z->file.status;
}

static void put(cld_zip_writer *z, const void *data, size_t bytes) {
    cld_writer_put(&z->file, data, bytes);
    z->at += bytes;
}

/* ---- headers ------------------------------------------------------------------------------------------- */

typedef struct record {
    unsigned char bytes[128];
    size_t used;
} record;

static void add(record *r, uint64_t value, int size) {
    for (int i = 0; i < size; i++) r->bytes[r->used++] = (unsigned char)(value >> (8 * i));
}

static void put_record(cld_zip_writer *z, const record *r) { put(z, r->bytes, r->used); }

/* The fields from the version to the name's length, which are the same in both headers of a member. */
static void add_facts(record *r, const member *m) {
    add(r, ZIP64, 2);
    add(r, UTF8_NAME, 2);
    add(r, STORED, 2);
    add(r, 0, 2); /* midnight */
    add(r, FIRST_OF_1980, 2);
    add(r, m->crc, 4);
    add(r, IN_ZIP64, 4);
    add(r, IN_ZIP64, 4);
    add(r, strlen(m->name), 2);
}

static record local_header(const member *m) {
    record r = {.used = 0};
    add(&r, 0x04034B50, 4);
    add_facts(&r, m);
    add(&r, m->extra, 2);
    return r;
}

/* The fields after the name: the sizes, and padding to the next multiple of the alignment, with PyTorch's name for
 * it. */
static record local_fields(const member *m) {
    record r = {.used = 0};
    add(&r, 1, 2);
    add(&r, SIZES_FIELD - 4, 2);
    add(&r, m->bytes, 8);
    add(&r, m->bytes, 8);
    add(&r, 'F' | 'B' << 8, 2);
    add(&r, m->extra - SIZES_FIELD - PADDING_HEADER, 2);
    while (r.used < m->extra) add(&r, 'Z', 1);
    return r;
}

static record directory_header(const member *m) {
    record r = {.used = 0};
    add(&r, 0x02014B50, 4);
    add(&r, 3 << 8 | ZIP64, 2); /* made on Unix */
    add_facts(&r, m);
    add(&r, PLACES_FIELD, 2);
    add(&r, 0, 2 + 2 + 2);               /* comment, disk, internal attributes */
    add(&r, (uint64_t)0100644 << 16, 4); /* a regular file that everyone may read */
    add(&r, IN_ZIP64, 4);
    return r;
}

static record directory_fields(const member *m) {
    record r = {.used = 0};
    add(&r, 1, 2);
    add(&r, PLACES_FIELD - 4, 2);
    add(&r, m->bytes, 8);
    add(&r, m->bytes, 8);
    add(&r, m->begin, 8);
    return r;
}

/* The end of the directory: the zip64 record if it is needed, then the usual one. */
static record ending(size_t count, uint64_t begin, uint64_t bytes) {
    record r = {.used = 0};
    bool fits = count < 0xFFFF && begin < IN_ZIP64 && bytes < IN_ZIP64;
    if (!fits) {
        add(&r, 0x06064B50, 4);
        add(&r, 44, 8);
        add(&r, 3 << 8 | ZIP64, 2);
        add(&r, ZIP64, 2);
        add(&r, 0, 8);
        add(&r, count, 8);
        add(&r, count, 8);
        add(&r, bytes, 8);
        add(&r, begin, 8);
        add(&r, 0x07064B50, 4);
        add(&r, 0, 4);
        add(&r, begin + bytes, 8);
        add(&r, 1, 4);
    }
    add(&r, 0x06054B50, 4);
    add(&r, 0, 4);
    add(&r, fits ? count : 0xFFFF, 2);
    add(&r, fits ? count : 0xFFFF, 2);
    add(&r, fits ? bytes : IN_ZIP64, 4);
    add(&r, fits ? begin : IN_ZIP64, 4);
    add(&r, 0, 2);
    return r;
}

/* ---- members ------------------------------------------------------------------------------------------- */

static cld_status check_name(const char *name) {
    size_t length = strlen(name);
    unsigned code;
    if (length > MOST_OF_NAME)
        return cld_fail(CLD_INVALID, "a name has %zu bytes; at most %u fit", length, MOST_OF_NAME);
    for (size_t i = 0, bytes; i < length; i += bytes) {
        bytes = (size_t)cld_utf8(name + i, length - i, &code);
        if (bytes == 0) return cld_fail(CLD_INVALID, "the name '%.100s' is not UTF-8 text", name);
    }
    return CLD_OK;
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
    *m = (member){.name = strdup(name)};
    if (m->name) z->count++;
    return m->name ? m : NULL;
}

cld_status cld_zip_begin(cld_zip_writer *z, const char *name, uint64_t bytes) {
    if (z->file.status != CLD_OK) return z->file.status;
    if (check_name(name) != CLD_OK) return spoiled(z, cld_fail_in("cannot write '%s'", z->file.path));
    member *m = new_member(z, name);
    if (!m) return spoiled(z, cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", z->file.path));
    size_t over = (size_t)((z->at + LOCAL_HEADER + strlen(name) + SIZES_FIELD + PADDING_HEADER) % ALIGNMENT);
    m->begin = z->at;
    m->bytes = bytes;
    m->extra = (unsigned)(SIZES_FIELD + PADDING_HEADER + (over ? ALIGNMENT - over : 0));
    m->crc = (uint32_t)crc32_z(0, NULL, 0);
    record header = local_header(m), fields = local_fields(m);
    put_record(z, &header);
    put(z, m->name, strlen(m->name));
    put_record(z, &fields);
    z->given = 0;
    return z->file.status;
}

cld_status cld_zip_add(cld_zip_writer *z, const void *data, size_t bytes) {
    if (z->file.status != CLD_OK) return z->file.status;
    member *m = &z->members[z->count - 1];
    m->crc = (uint32_t)crc32_z(m->crc, data, bytes);
    z->given += bytes;
    put(z, data, bytes);
    return z->file.status;
}

/* Now the checksum is known, so the header is written again. */
cld_status cld_zip_end(cld_zip_writer *z) {
    if (z->file.status != CLD_OK) return z->file.status;
    const member *m = &z->members[z->count - 1];
    if (z->given != m->bytes)
        return spoiled(z,
                       cld_fail(CLD_INVALID, "cannot write '%s': the length of '%s' is not the announced one",
                                z->file.path, m->name));
    record header = local_header(m);
    return cld_writer_patch(&z->file, m->begin, header.bytes, header.used);
}

cld_status cld_zip_put(cld_zip_writer *z, const char *name, const void *data, size_t bytes) {
    CLD_TRY(cld_zip_begin(z, name, bytes));
    CLD_TRY(cld_zip_add(z, data, bytes));
    return cld_zip_end(z);
}

static void put_directory(cld_zip_writer *z) {
    uint64_t begin = z->at;
    for (size_t i = 0; i < z->count; i++) {
        record header = directory_header(&z->members[i]), fields = directory_fields(&z->members[i]);
        put_record(z, &header);
        put(z, z->members[i].name, strlen(z->members[i].name));
        put_record(z, &fields);
    }
    record end = ending(z->count, begin, z->at - begin);
    put_record(z, &end);
}

cld_status cld_zip_commit(cld_zip_writer *z) {
    if (z->file.status == CLD_OK) put_directory(z);
    cld_status status = cld_writer_commit(&z->file);
    for (size_t i = 0; i < z->count; i++) free(z->members[i].name);
    free(z->members);
    free(z);
    return status;
}
