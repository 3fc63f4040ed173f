/* Writing .npz files: members stored one after the other, then the directory (PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12,
 * 4.3.14 to 16). As numpy.savez does, every member has the 64-bit sizes of zip64 beside the usual ones, so that its header
 * can be written before its length is known to fit. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "runtime/core/text.h"
#include "runtime/io/npy.h"
#include "runtime/io/npz.h"

#define MOST_OF_NAME 65000u /* of 65535, with the suffix */

/* What the directory repeats of a member. */
typedef struct member {
    uint64_t begin, bytes; /* the local header's place; the content */
    uint32_t crc;
} member;

typedef struct record {
    unsigned char bytes[96];
    size_t used;
} record;

static void add(record *r, uint64_t value, int size) {
    for (int i = 0; i < size; i++) r->bytes[r->used++] = (unsigned char)(value >> (8 * i));
}

enum { ZIP64 = 45, UTF8_NAME = 1 << 11, STORED = 0, FIRST_OF_1980 = 1 << 5 | 1 };
#define IN_ZIP64 0xFFFFFFFFu

/* From the version to the name's length: the same in both headers of a member. */
static void add_facts(record *r, const member *m, size_t name) {
    add(r, ZIP64, 2);
    add(r, UTF8_NAME, 2);
    add(r, STORED, 2);
    add(r, 0, 2); /* midnight */
    add(r, FIRST_OF_1980, 2);
    add(r, m->crc, 4);
    add(r, IN_ZIP64, 4);
    add(r, IN_ZIP64, 4);
    add(r, name, 2);
}

static record local_header(const member *m, size_t name) {
    record r = {.used = 0};
    add(&r, 0x04034B50, 4);
    add_facts(&r, m, name);
    add(&r, 20, 2); /* of the field that follows the name */
    return r;
}

static record local_sizes(const member *m) {
    record r = {.used = 0};
    add(&r, 1, 2);
    add(&r, 16, 2);
    add(&r, m->bytes, 8);
    add(&r, m->bytes, 8);
    return r;
}

static record directory_header(const member *m, size_t name) {
    record r = {.used = 0};
    add(&r, 0x02014B50, 4);
    add(&r, 3 << 8 | ZIP64, 2); /* made on Unix */
    add_facts(&r, m, name);
    add(&r, 28, 2);
    add(&r, 0, 2 + 2 + 2);               /* comment, disk, internal attributes */
    add(&r, (uint64_t)0100644 << 16, 4); /* a plain file, to be read by all */
    add(&r, IN_ZIP64, 4);
    return r;
}

static record directory_sizes(const member *m) {
    record r = {.used = 0};
    add(&r, 1, 2);
    add(&r, 24, 2);
    add(&r, m->bytes, 8);
    add(&r, m->bytes, 8);
    add(&r, m->begin, 8);
    return r;
}

/* The directory's own end, in 64 bits and then in few. */
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

static void put(cld_writer *w, const record *r, uint64_t *at) {
    cld_writer_put(w, r->bytes, r->used);
    *at += r->used;
}

static void put_name(cld_writer *w, const char *name, uint64_t *at) {
    cld_writer_put(w, name, strlen(name));
    cld_writer_put(w, ".npy", 4);
    *at += strlen(name) + 4;
}

static cld_status check_name(const char *name) {
    size_t length = strlen(name);
    unsigned code;
    if (length > MOST_OF_NAME)
        return cld_fail(CLD_INVALID, "a name has %zu bytes; at most %u fit", length, MOST_OF_NAME);
    for (size_t i = 0, bytes; i < length; i += bytes) {
        bytes = (size_t)cld_utf8(name + i, length - i, &code);
        if (bytes == 0) return cld_fail(CLD_INVALID, "the tensor's name '%.100s' is not UTF-8 text", name);
    }
    return CLD_OK;
}

/* A member's content on its way to the file. */
typedef struct content {
    cld_writer *writer;
    uLong crc;
    uint64_t bytes;
} content;

static cld_status take(void *to, const void *data, size_t bytes) {
    content *c = to;
    c->crc = crc32_z(c->crc, data, bytes);
    c->bytes += bytes;
    return cld_writer_put(c->writer, data, bytes);
}

/* The checksum is known at the end: the header is written again then. */
static cld_status put_array(cld_writer *w, const cld_npz_array *a, member *m, uint64_t *at) {
    char head[CLD_NPY_HEAD];
    cld_number_type type;
    size_t length = cld_npy_head(head, a->tensor, &type), name = strlen(a->name) + 4;
    if (!length) return cld_fail_in("tensor '%.100s'", a->name);
    *m = (member){.begin = *at, .bytes = length + (uint64_t)cld_numel(&a->tensor->a) * type.bytes};
    record header = local_header(m, name), sizes = local_sizes(m);
    put(w, &header, at);
    put_name(w, a->name, at);
    put(w, &sizes, at);
    content c = {.writer = w, .crc = crc32_z(0, NULL, 0)};
    CLD_TRY(take(&c, head, length));
    if (cld_give_numbers(take, &c, a->tensor, type) != CLD_OK) return cld_fail_in("tensor '%.100s'", a->name);
    *at += c.bytes;
    m->crc = (uint32_t)c.crc;
    header = local_header(m, name);
    return cld_writer_patch(w, m->begin, header.bytes, header.used);
}

static void put_directory(cld_writer *w, const cld_npz_array *arrays, const member *members, size_t count,
                          uint64_t at) {
    uint64_t begin = at;
    for (size_t i = 0; i < count; i++) {
        record header = directory_header(&members[i], strlen(arrays[i].name) + 4),
               sizes = directory_sizes(&members[i]);
        put(w, &header, &at);
        put_name(w, arrays[i].name, &at);
        put(w, &sizes, &at);
    }
    record end = ending(count, begin, at - begin);
    put(w, &end, &at);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const cld_npz_array *)a)->name, ((const cld_npz_array *)b)->name);
}

static cld_status write_all(cld_writer *w, const cld_npz_array *arrays, size_t count) {
    uint64_t at = 0;
    member *members = calloc(count + 1, sizeof *members);
    cld_status status = members ? CLD_OK : cld_fail(CLD_NOMEM, "out of memory for the directory");
    for (size_t i = 0; i < count && status == CLD_OK; i++) {
        status = check_name(arrays[i].name);
        if (status == CLD_OK) status = put_array(w, &arrays[i], &members[i], &at);
    }
    if (status == CLD_OK) put_directory(w, arrays, members, count, at);
    free(members);
    return status;
}

cld_status cld_npz_save(const char *path, cld_npz_array *arrays, size_t count) {
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    if (count) qsort(arrays, count, sizeof *arrays, by_name);
    if (write_all(&w, arrays, count) != CLD_OK && w.status == CLD_OK)
        w.status = cld_fail_in("cannot write '%s'", path);
    return cld_writer_commit(&w);
}
