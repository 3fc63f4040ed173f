/* Reading MATLAB 5 files. The contract is in mat5.h.
 *
 * A file is a header of 128 bytes, then elements. An element is a tag (type, number of bytes) and data, padded to 8
 * bytes. Data of up to 4 bytes may be in the tag itself; the upper half of the type is then the number of bytes. A
 * compressed element contains one other element. A matrix is an element that consists of elements: flags, dimensions,
 * name, and then those of its class.
 */
#include "runtime/io/mat5.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define HEADER        128
#define MOST_INFLATED ((size_t)64 << 20)
#define MOST_FIELDS   1000

enum {
    INT8 = 1,
    UINT8,
    INT16,
    UINT16,
    INT32,
    UINT32,
    SINGLE,
    DOUBLE = 9,
    INT64 = 12,
    UINT64,
    MATRIX,
    COMPRESSED,
    UTF8,
    UTF16
};
enum { STRUCT_CLASS = 2, CHAR_CLASS = 4, FIRST_NUMBER_CLASS = 6, LAST_NUMBER_CLASS = 15 };

typedef struct span {
    const uint8_t *at, *end;
} span;

typedef struct element {
    uint32_t type;
    span data;
} element;

/* The part that every matrix begins with; `rest` is what follows. */
typedef struct matrix {
    int class;
    uint64_t count; /* of elements */
    span name, rest;
} matrix;

struct cld_mat5 {
    char *path;
    uint8_t *data; /* the variable, uncompressed */
    int64_t count;
    size_t fields, name_length;
    const char *names; /* (fields) names of name_length bytes each, inside data */
    span *cells;       /* (count, fields): matrices */
};

/* ---- elements ------------------------------------------------------------------------------------------ */

static uint32_t u32(const uint8_t *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Takes the next element of `in`; false if there is no whole one. */
static bool next(span *in, element *out) {
    size_t left = (size_t)(in->end - in->at);
    if (left < 8) return false;
    uint32_t first = u32(in->at), size = u32(in->at + 4);
    if (first >> 16) { /* the data is in the tag */
        size = first >> 16;
        if (size > 4) return false;
        *out = (element){first & 0xFFFF, {in->at + 4, in->at + 4 + size}};
        in->at += 8;
        return true;
    }
    if (size > left - 8) return false;
    *out = (element){first, {in->at + 8, in->at + 8 + size}};
    size_t whole = 8 + (size_t)size;
    if (first != COMPRESSED) whole += (8 - whole % 8) % 8;
    in->at += whole < left ? whole : left;
    return true;
}

static size_t size_of(span s) { return (size_t)(s.end - s.at); }

static bool read_matrix(span in, matrix *out) {
    element flags, dims, name;
    if (!next(&in, &flags) || flags.type != UINT32 || size_of(flags.data) != 8) return false;
    if (!next(&in, &dims) || dims.type != INT32 || size_of(dims.data) < 8 || size_of(dims.data) % 4)
        return false;
    if (!next(&in, &name) || name.type != INT8) return false;
    out->class = flags.data.at[0];
    out->count = 1;
    for (const uint8_t *d = dims.data.at; d < dims.data.end; d += 4) {
        if (u32(d) > INT32_MAX || __builtin_mul_overflow(out->count, (uint64_t)u32(d), &out->count))
            return false;
    }
    out->name = name.data;
    out->rest = in;
    return true;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static cld_status damaged(const char *path, const char *what) {
    return cld_fail(CLD_IO, "%.300s: damaged MATLAB file: %s", path, what);
}

/* The element inside a compressed one, which the caller frees. */
static uint8_t *inflate_all(span in, const char *path, size_t *length) {
    z_stream z = {.next_in = (Bytef *)in.at, .avail_in = (uInt)size_of(in)};
    uint8_t *out = NULL;
    size_t room = 0;
    int result = inflateInit(&z);
    *length = 0;
    while (result == Z_OK) {
        if (*length == room) {
            size_t wanted = room ? 2 * room : 1 << 16;
            uint8_t *grown = room < MOST_INFLATED ? realloc(out, wanted) : NULL;
            if (!grown) {
                result = room < MOST_INFLATED ? Z_MEM_ERROR : Z_BUF_ERROR;
                break;
            }
            out = grown;
            room = wanted;
        }
        z.next_out = out + *length;
        z.avail_out = (uInt)(room - *length);
        result = inflate(&z, Z_NO_FLUSH);
        *length = room - z.avail_out;
    }
    inflateEnd(&z);
    if (result == Z_STREAM_END) return out;
    free(out);
    if (result == Z_MEM_ERROR)
        return cld_fail_null(CLD_NOMEM, "%.300s: out of memory for its compressed data", path);
    damaged(path, room >= MOST_INFLATED ? "its compressed data unpack to more than 64 MB"
                                        : "its compressed data cannot be unpacked");
    return NULL;
}

static cld_status check_header(span file, const char *path) {
    if (size_of(file) >= 8 && memcmp(file.at, "\x89HDF\r\n\x1a\n", 8) == 0)
        return cld_fail(CLD_IO, "%.300s: a MATLAB file of version 7.3; only version 5 can be read", path);
    if (size_of(file) < HEADER || memcmp(file.at + 126, "IM", 2) != 0 || file.at[125] != 1) {
        bool other_order = size_of(file) >= HEADER && memcmp(file.at + 126, "MI", 2) == 0;
        return cld_fail(CLD_IO, "%.300s: not a MATLAB file of version 5%s", path,
                        other_order ? " in little-endian order" : "");
    }
    return CLD_OK;
}

/* Copies the variable's matrix into m->data and sets *out to it. */
static cld_status find_variable(cld_mat5 *m, span file, const char *variable, span *out) {
    element e, inner;
    matrix found;
    file.at += HEADER;
    while (next(&file, &e)) {
        size_t length = size_of(e.data);
        uint8_t *copy = NULL;
        if (e.type == COMPRESSED) {
            copy = inflate_all(e.data, m->path, &length);
            if (!copy) return cld_error_code();
            span in = {copy, copy + length};
            inner = (element){0};
            if (!next(&in, &inner)) length = 0;
            e = inner;
        } else if (e.type == MATRIX) {
            copy = malloc(length + 1);
            if (!copy) return cld_fail(CLD_NOMEM, "%.300s: out of memory", m->path);
            memcpy(copy, e.data.at, length);
            e.data = (span){copy, copy + length};
        }
        bool is_it = e.type == MATRIX && length && read_matrix(e.data, &found) &&
                     size_of(found.name) == strlen(variable) &&
                     memcmp(found.name.at, variable, strlen(variable)) == 0;
        if (is_it) {
            m->data = copy;
            *out = e.data;
            return CLD_OK;
        }
        free(copy);
    }
    if (size_of(file)) return damaged(m->path, "it is cut off");
    return cld_fail(CLD_IO, "%.300s: it has no variable '%.100s'", m->path, variable);
}

static cld_status read_structs(cld_mat5 *m, span variable, const char *name) {
    matrix all;
    element length, names, cell;
    read_matrix(variable, &all); /* cannot fail: find_variable read it already */
    if (all.class != STRUCT_CLASS)
        return cld_fail(CLD_IO, "%.300s: '%.100s' is not an array of structs", m->path, name);
    if (!next(&all.rest, &length) || length.type != INT32 || size_of(length.data) != 4 ||
        !next(&all.rest, &names) || names.type != INT8)
        return damaged(m->path, "the structs have no field names");
    m->name_length = u32(length.data.at);
    if (m->name_length == 0 || m->name_length > 1024 || size_of(names.data) == 0 ||
        size_of(names.data) % m->name_length || size_of(names.data) / m->name_length > MOST_FIELDS)
        return damaged(m->path, "the field names do not match their length");
    m->names = (const char *)names.data.at;
    m->fields = size_of(names.data) / m->name_length;
    if (all.count > size_of(all.rest) / 8 / m->fields)
        return damaged(m->path, "it has fewer structs than it says");
    m->count = (int64_t)all.count;
    m->cells = malloc((all.count * m->fields + 1) * sizeof *m->cells);
    if (!m->cells) return cld_fail(CLD_NOMEM, "%.300s: out of memory for its structs", m->path);
    for (size_t i = 0; i < all.count * m->fields; i++) {
        if (!next(&all.rest, &cell) || cell.type != MATRIX)
            return damaged(m->path, "it has fewer structs than it says");
        m->cells[i] = cell.data;
    }
    return CLD_OK;
}

cld_mat5 *cld_mat5_open(const void *bytes, size_t length, const char *path, const char *variable) {
    span file = {bytes, (const uint8_t *)bytes + length}, found;
    CLD_TRY_NULL(check_header(file, path));
    cld_mat5 *m = calloc(1, sizeof *m);
    if (m) m->path = strdup(path);
    if (!m || !m->path) {
        cld_mat5_free(m);
        return cld_fail_null(CLD_NOMEM, "%.300s: out of memory", path);
    }
    cld_status status = find_variable(m, file, variable, &found);
    if (status == CLD_OK) status = read_structs(m, found, variable);
    if (status == CLD_OK) return m;
    cld_mat5_free(m);
    return NULL;
}

void cld_mat5_free(cld_mat5 *m) {
    if (!m) return;
    free(m->path);
    free(m->data);
    free(m->cells);
    free(m);
}

/* ---- values -------------------------------------------------------------------------------------------- */

int64_t cld_mat5_count(const cld_mat5 *m) { return m->count; }

static cld_status find_cell(const cld_mat5 *m, int64_t i, const char *field, matrix *out) {
    for (size_t f = 0; f < m->fields; f++) {
        const char *name = m->names + f * m->name_length;
        if (strnlen(name, m->name_length) != strlen(field) || strncmp(name, field, m->name_length) != 0)
            continue;
        if (read_matrix(m->cells[(size_t)i * m->fields + f], out)) return CLD_OK;
        return cld_fail(CLD_IO, "%.300s: struct %lld has no value in '%.100s'", m->path, (long long)i + 1,
                        field);
    }
    return cld_fail(CLD_IO, "%.300s: its structs have no field '%.100s'", m->path, field);
}

/* The first value of the data; false if its type is not a number. */
static bool first_number(element e, double *out) {
    const uint8_t *at = e.data.at;
    size_t size = size_of(e.data);
#define TAKE(code, type)                                                                                     \
    case code: {                                                                                             \
        type value;                                                                                          \
        if (size < sizeof value) return false;                                                               \
        memcpy(&value, at, sizeof value);                                                                    \
        *out = (double)value;                                                                                \
        return true;                                                                                         \
    }
    switch (e.type) {
        TAKE(INT8, int8_t)
        TAKE(UINT8, uint8_t)
        TAKE(INT16, int16_t)
        TAKE(UINT16, uint16_t)
        TAKE(INT32, int32_t)
        TAKE(UINT32, uint32_t)
        TAKE(SINGLE, float)
        TAKE(DOUBLE, double)
        TAKE(INT64, int64_t)
        TAKE(UINT64, uint64_t)
    default: return false;
    }
#undef TAKE
}

cld_status cld_mat5_number(const cld_mat5 *m, int64_t i, const char *field, double *out) {
    matrix cell;
    element e;
    CLD_TRY(find_cell(m, i, field, &cell));
    if (cell.class < FIRST_NUMBER_CLASS || cell.class > LAST_NUMBER_CLASS || cell.count != 1 ||
        !next(&cell.rest, &e) || !first_number(e, out))
        return cld_fail(CLD_IO, "%.300s: '%.100s' of struct %lld is not one number", m->path, field,
                        (long long)i + 1);
    return CLD_OK;
}

cld_status cld_mat5_text(const cld_mat5 *m, int64_t i, const char *field, char *out, size_t size) {
    matrix cell;
    element e;
    CLD_TRY(find_cell(m, i, field, &cell));
    bool is_text = cell.class == CHAR_CLASS && next(&cell.rest, &e) && cell.count < size;
    size_t wide = !is_text                                              ? 0
                  : e.type == UINT16 || e.type == UTF16                 ? 2
                  : e.type == UTF8 || e.type == INT8 || e.type == UINT8 ? 1
                                                                        : 0;
    is_text = wide && size_of(e.data) == cell.count * wide;
    for (size_t c = 0; is_text && c < cell.count; c++) {
        const uint8_t *at = e.data.at + c * wide;
        is_text = at[0] > 0 && at[0] < 0x80 && (wide == 1 || at[1] == 0);
        out[c] = (char)at[0];
    }
    if (!is_text)
        return cld_fail(CLD_IO, "%.300s: '%.100s' of struct %lld is not a text shorter than %zu letters",
                        m->path, field, (long long)i + 1, size);
    out[cell.count] = '\0';
    return CLD_OK;
}
