/* .npy files. The header is a Python dictionary literal, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } as
 * NumPy writes it. The parser below also accepts other writers' forms of it that numpy.load reads.
 */
#define _GNU_SOURCE
#include "runtime/io/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/file.h"
#include "runtime/io/numbers.h"

static const char magic[6] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y'};

/* The header of a plain array takes some hundred bytes, padding included. */
#define MOST_HEADER 65536u

/* A descr is a byte order (one of < > = |, or none) and one of these names. */
static const struct kind {
    const char *names;
    cld_number_type type;
} kinds[] = {
    {"f4 f float32 single", {'f', 4, false, CLD_F32, "f4"}},
    {"f8 d float64 double float", {'f', 8, false, CLD_F64, "f8"}},
    {"f2 e float16 half", {'f', 2, false, CLD_F16, "f2"}},
    {"i8 l q n p int64 int int_ long longlong intp", {'i', 8, false, CLD_I64, "i8"}},
    {"i4 i int32 intc", {'i', 4, false, CLD_I32, "i4"}},
    {"u1 B uint8 ubyte", {'u', 1, false, CLD_U8, "u1"}}, /* up to here: what is written, one per dtype */
    {"b1 ? bool bool_ bool8", {'b', 1, false, CLD_U8, "b1"}},
    {"i1 b int8 byte", {'i', 1, false, CLD_I32, "i1"}},
    {"i2 h int16 short", {'i', 2, false, CLD_I32, "i2"}},
    {"u2 H uint16 ushort", {'u', 2, false, CLD_I32, "u2"}},
    {"u4 I uint32 uintc", {'u', 4, false, CLD_I64, "u4"}},
    {"u8 L Q N P uint64 uint ulong ulonglong uintp", {'u', 8, false, CLD_I64, "u8"}},
};
#define KINDS (sizeof kinds / sizeof *kinds)

typedef struct npy_header {
    cld_number_type type;
    bool fortran_order;
    int ndim;
    int64_t shape[CLD_MAX_DIMS];
    uint64_t data_start;
    bool is_foreign; /* a valid NumPy array, but not supported here */
} npy_header;

/* ---- the header's text --------------------------------------------------------------------------------- */

static void skip_space(const char **at) {
    for (;;) {
        *at += strspn(*at, " \t\r\n\f");
        if (**at != '#') return;
        *at += strcspn(*at, "\n"); /* a comment */
    }
}

static bool take(const char **at, const char *token) {
    skip_space(at);
    size_t length = strlen(token);
    if (strncmp(*at, token, length) != 0) return false;
    *at += length;
    return true;
}

/* A Python string without escapes, in quotes of either kind; a Python 2 writer may have put a u before them. */
static bool take_string(const char **at, char *out, size_t room) {
    skip_space(at);
    const char *text = *at + (**at == 'u' || **at == 'U');
    char quote = *text;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(++text, quote);
    if (!end || (size_t)(end - text) >= room || memchr(text, '\\', (size_t)(end - text))) return false;
    memcpy(out, text, (size_t)(end - text));
    out[end - text] = '\0';
    *at = end + 1;
    return true;
}

/* Decimal, at most 2^63 - 1; Python 2 puts an L after a long one. */
static bool take_extent(const char **at, int64_t *out) {
    skip_space(at);
    if (**at < '0' || **at > '9') return false;
    for (*out = 0; **at >= '0' && **at <= '9'; ++*at)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, **at - '0', out))
            return false;
    take(at, "L");
    return true;
}

static bool take_shape(const char **at, npy_header *h) {
    if (!take(at, "(")) return false;
    h->ndim = 0;
    while (!take(at, ")")) {
        h->is_foreign = h->ndim == CLD_MAX_DIMS;
        if (h->is_foreign || !take_extent(at, &h->shape[h->ndim++])) return false;
        skip_space(at);
        if (!take(at, ",") && **at != ')') return false;
    }
    return true;
}

/* Returns what is wrong, and *at is where; or NULL. descr is for the caller's message. */
static const char *parse_header(const char **at, npy_header *h, char *descr, size_t room) {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take(at, "{")) return "the header is not a dictionary";
    while (!take(at, "}")) {
        char key[16];
        const char *begin = *at;
        if (!take_string(at, key, sizeof key) || !take(at, ":")) {
            *at = begin;
            return "the header is not a dictionary of descr, fortran_order and shape";
        }
        skip_space(at);
        if (strcmp(key, "descr") == 0) {
            h->is_foreign = **at == '[' || **at == '('; /* structured */
            has_descr = take_string(at, descr, room);
            if (!has_descr) return "'descr' is not a plain type";
        } else if (strcmp(key, "fortran_order") == 0) {
            h->fortran_order = take(at, "True");
            has_order = h->fortran_order || take(at, "False");
            if (!has_order) return "'fortran_order' is neither True nor False";
        } else if (strcmp(key, "shape") == 0) {
            begin = *at;
            has_shape = take_shape(at, h);
            if (!has_shape) *at = begin;
            if (!has_shape) return "'shape' is not a tuple of at most 8 sizes";
        } else {
            *at = begin;
            return "the header holds something besides descr, fortran_order and shape";
        }
        skip_space(at);
        if (!take(at, ",") && **at != '}') return "the header is not a dictionary";
    }
    skip_space(at);
    if (**at) return "the header goes on after its dictionary";
    return has_descr && has_order && has_shape ? NULL : "the header lacks descr, fortran_order or shape";
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Whether the word is in a list of words separated by spaces. */
static bool is_one_of(const char *word, const char *list) {
    size_t length = strlen(word);
    for (const char *at = list; length && (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
    return false;
}

static bool find_type(const char *descr, cld_number_type *type) {
    const char *name = descr + (*descr && strchr("<>=|", *descr));
    for (size_t i = 0; i < KINDS; i++) {
        if (strchr(name, ' ') || !is_one_of(name, kinds[i].names)) continue;
        *type = kinds[i].type;
        type->big_endian = *descr == '>' && type->bytes > 1;
        return true;
    }
    return false;
}

static cld_status read_text(const cld_npy_source *r, size_t length, npy_header *h) {
    char *text = malloc(length + 1), descr[64] = "";
    if (!text) return cld_fail(CLD_NOMEM, "%s: out of memory for the header", r->path);
    cld_status status = r->take(r->from, text, length);
    if (status == CLD_OK) {
        text[length] = '\0';
        const char *at = text, *problem = parse_header(&at, h, descr, sizeof descr);
        size_t shown = strcspn(at, "\r\n\t\f");
        const char *damage = h->is_foreign ? "" : "damaged file: ";
        if (problem)
            status = cld_fail(h->is_foreign ? CLD_UNSUPPORTED : CLD_IO, "%s: %s%s%s%.*s%s", r->path, damage,
                              problem, shown ? ": " : "", (int)(shown < 40 ? shown : 40), at,
                              shown > 40 ? "..." : "");
        else if (!find_type(descr, &h->type))
            status = cld_fail(CLD_UNSUPPORTED,
                              "%s: the type '%s' is unknown; known are f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 "
                              "in either byte order, and NumPy's other names of these",
                              r->path, descr);
    }
    free(text);
    return status;
}

static cld_status read_header(const cld_npy_source *r, npy_header *h) {
    unsigned char prefix[12];
    if (r->bytes < 10)
        return cld_fail(CLD_IO, "%s: not an .npy file (it has %d bytes)", r->path, (int)r->bytes);
    CLD_TRY(r->take(r->from, prefix, 10));
    if (memcmp(prefix, magic, sizeof magic) != 0)
        return cld_fail(CLD_IO, "%s: not an .npy file (it does not start with \\x93NUMPY)", r->path);
    int version = prefix[6];
    if (version < 1 || version > 3)
        return cld_fail(CLD_IO, "%s: .npy version %d is not known", r->path, version);
    uint64_t start = version == 1 ? 10 : 12, length = prefix[8] | (uint64_t)prefix[9] << 8;
    if (version > 1) {
        if (r->bytes < 12) return cld_fail(CLD_IO, "%s: damaged file: its header is cut off", r->path);
        CLD_TRY(r->take(r->from, prefix + 10, 2));
        length |= (uint64_t)prefix[10] << 16 | (uint64_t)prefix[11] << 24;
    }
    if (length > r->bytes - start)
        return cld_fail(CLD_IO, "%s: damaged file: its header is cut off", r->path);
    if (length > MOST_HEADER)
        return cld_fail(CLD_UNSUPPORTED,
                        "%s: its header has %llu bytes; that of a plain array has at most %u", r->path,
                        (unsigned long long)length, MOST_HEADER);
    h->data_start = start + length;
    return read_text(r, (size_t)length, h);
}

/* ---- the elements -------------------------------------------------------------------------------------- */

/* t holds column-major data, with its shape reversed; the view has the true shape. */
static cld_tensor *as_fortran(cld_tensor *t) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    for (int i = 0; i < t->a.ndim; i++) {
        shape[i] = t->a.shape[t->a.ndim - 1 - i];
        strides[i] = t->a.strides[t->a.ndim - 1 - i];
    }
    cld_tensor *view = cld_tensor_view(t, t->a.ndim, shape, strides, t->a.data);
    if (view) cld_numbers_hand_on(view, t);
    return view;
}

cld_tensor *cld_npy_read(const cld_npy_source *r) {
    npy_header h = {0};
    CLD_TRY_NULL(read_header(r, &h));
    int64_t shape[CLD_MAX_DIMS];
    uint64_t bytes = h.type.bytes, there = r->bytes - h.data_start;
    bool fits = true;
    for (int i = 0; i < h.ndim; i++) {
        shape[i] = h.shape[h.fortran_order ? h.ndim - 1 - i : i];
        fits = fits && !__builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes);
    }
    if (!fits || bytes > there)
        return cld_fail_null(CLD_IO,
                             "%s: damaged file: %llu bytes of data do not fill the shape in its header",
                             r->path, (unsigned long long)there);
    void *to;
    CLD_AUTO cld_tensor *t = cld_numbers_new(h.type, h.ndim, shape, &to);
    if (!t) return (void)cld_fail_in("%s", r->path), NULL;
    CLD_TRY_NULL(r->take(r->from, to, (size_t)bytes));
    if (cld_numbers_convert(t, h.type) != CLD_OK) return (void)cld_fail_in("%s", r->path), NULL;
    return h.fortran_order ? as_fortran(t) : cld_tensor_steal(&t);
}

/* A file and how far it has been read. */
typedef struct place {
    cld_reader *reader;
    uint64_t at;
} place;

static cld_status take_from_file(void *from, void *out, size_t bytes) {
    place *p = from;
    CLD_TRY(cld_reader_get(p->reader, out, p->at, bytes));
    p->at += bytes;
    return CLD_OK;
}

static cld_npy_source source_of(place *p) {
    return (cld_npy_source){p->reader->path, p->reader->bytes, take_from_file, p};
}

cld_tensor *cld_npy_load(const char *path) {
    cld_reader r;
    CLD_TRY_NULL(cld_reader_open(&r, path));
    place from = {.reader = &r};
    cld_npy_source source = source_of(&from);
    cld_tensor *t = cld_npy_read(&source);
    cld_reader_close(&r);
    return t;
}

cld_status cld_npy_find_bytes(cld_npy_bytes *out, cld_reader *r) {
    npy_header h = {0};
    place from = {.reader = r};
    cld_npy_source source = source_of(&from);
    CLD_TRY(read_header(&source, &h));
    if (h.type.dtype != CLD_U8 || strcmp(h.type.name, "u1") != 0 || h.fortran_order)
        return cld_fail(CLD_INVALID, "%s: its elements must be u1 in C order", r->path);
    uint64_t bytes = 1, there = r->bytes - h.data_start;
    bool fits = true;
    for (int i = 0; i < h.ndim; i++)
        fits = fits && !__builtin_mul_overflow(bytes, (uint64_t)h.shape[i], &bytes);
    if (!fits || bytes > there)
        return cld_fail(CLD_IO, "%s: damaged file: %llu bytes of data do not fill the shape in its header",
                        r->path, (unsigned long long)there);
    out->ndim = h.ndim;
    memcpy(out->shape, h.shape, sizeof out->shape);
    out->start = h.data_start;
    return CLD_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* The dictionary, padded so that the data starts at a multiple of 64 bytes; returns its length. */
static size_t write_header(char *out, size_t room, const cld_array *a, const struct kind *kind) {
    int used = snprintf(out, room, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                        kind->type.bytes == 1 ? '|' : '<', kind->type.name);
    for (int i = 0; i < a->ndim; i++)
        used += snprintf(out + used, room - (size_t)used, i ? " %lld," : "%lld,", (long long)a->shape[i]);
    if (a->ndim > 1) used--; /* Python writes (3,) but (3, 4) */
    used += snprintf(out + used, room - (size_t)used, "), }");
    while ((10 + used + 1) % 64) out[used++] = ' ';
    out[used++] = '\n';
    return (size_t)used;
}

/* The type that t was read as, if NumPy has it, else its dtype's; NULL if NumPy has neither. */
static const struct kind *kind_of(const cld_tensor *t) {
    char kind = 0;
    uint8_t bytes = 0;
    bool came = cld_numbers_came_as(t, &kind, &bytes);
    for (size_t i = 0; i < KINDS && came; i++) {
        const cld_number_type *type = &kinds[i].type;
        if (type->dtype == t->a.dtype && type->kind == kind && type->bytes == bytes) return &kinds[i];
    }
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].type.dtype == t->a.dtype) return &kinds[i];
    return NULL;
}

size_t cld_npy_head(char head[CLD_NPY_HEAD], const cld_tensor *t, cld_number_type *type) {
    const struct kind *kind = kind_of(t);
    if (!kind) {
        cld_fail(CLD_INVALID, "NumPy has no %s; convert the tensor to f32 first", cld_dtype_name(t->a.dtype));
        return 0;
    }
    *type = kind->type;
    size_t length = write_header(head + 10, CLD_NPY_HEAD - 10, &t->a, kind);
    memcpy(head, magic, sizeof magic);
    head[6] = 1;
    head[7] = 0;
    head[8] = (char)(length & 255);
    head[9] = (char)(length >> 8);
    return 10 + length;
}

cld_status cld_npy_save(const char *path, cld_tensor *t) {
    char head[CLD_NPY_HEAD];
    cld_number_type type;
    size_t length = cld_npy_head(head, t, &type);
    if (!length) return cld_fail_in("cannot write '%s'", path);
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    cld_writer_put(&w, head, length);
    if (cld_write_numbers(&w, t, type) != CLD_OK && w.status == CLD_OK) w.status = cld_error_code();
    return cld_writer_commit(&w);
}
