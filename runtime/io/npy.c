/* .npy files. The header is a Python dictionary literal; the parser below takes exactly the form that NumPy writes,
 * {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } in any order of keys, and refuses the rest.
 */
#define _GNU_SOURCE
#include "runtime/io/npy.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/file.h"

static const char magic[6] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y'};

/* A descr is one of < > |, the byte order, and one of these. */
static const struct kind {
    const char *name;
    size_t bytes;
    cld_dtype dtype; /* what it becomes */
} kinds[] = {
    {"f4", 4, CLD_F32}, {"f8", 8, CLD_F64}, {"f2", 2, CLD_F16},
    {"i8", 8, CLD_I64}, {"i4", 4, CLD_I32}, {"u1", 1, CLD_U8}, /* so far of the same bytes: what is written */
    {"b1", 1, CLD_U8},  {"i1", 1, CLD_I32}, {"i2", 2, CLD_I32},
    {"u2", 2, CLD_I32}, {"u4", 4, CLD_I64}, {"u8", 8, CLD_I64},
};
#define KINDS (sizeof kinds / sizeof *kinds)

typedef struct npy_header {
    const struct kind *kind;
    bool big_endian, fortran_order;
    int ndim;
    int64_t shape[CLD_MAX_DIMS];
    uint64_t data_start;
} npy_header;

/* ---- the header's text --------------------------------------------------------------------------------- */

static void skip_space(const char **at) {
    while (**at == ' ' || **at == '\n') ++*at;
}

static bool take(const char **at, const char *token) {
    skip_space(at);
    size_t length = strlen(token);
    if (strncmp(*at, token, length) != 0) return false;
    *at += length;
    return true;
}

static bool take_descr(const char **at, char *out, size_t room) {
    skip_space(at);
    size_t length = **at == '\'' ? strcspn(*at + 1, "'") : 0;
    if (length == 0 || length >= room || (*at)[length + 1] != '\'') return false;
    memcpy(out, *at + 1, length);
    out[length] = '\0';
    *at += length + 2;
    return true;
}

static bool take_shape(const char **at, npy_header *h) {
    if (!take(at, "(")) return false;
    h->ndim = 0;
    while (!take(at, ")")) {
        char *end;
        if (h->ndim == CLD_MAX_DIMS || !isdigit((unsigned char)**at)) return false;
        long long extent = strtoll(*at, &end, 10);
        if (extent == INT64_MAX) return false;
        h->shape[h->ndim++] = extent;
        *at = end;
        skip_space(at);
        if (!take(at, ",") && **at != ')') return false;
    }
    return true;
}

/* What was wrong, or NULL. descr is kept for the caller's message. */
static const char *parse_header(const char *text, npy_header *h, char *descr, size_t room) {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take(&text, "{")) return "the header is not a dictionary";
    while (!take(&text, "}")) {
        if (take(&text, "'descr':")) {
            has_descr = take_descr(&text, descr, room);
            if (!has_descr) return "'descr' is not a plain type";
        } else if (take(&text, "'fortran_order':")) {
            h->fortran_order = take(&text, "True");
            has_order = h->fortran_order || take(&text, "False");
            if (!has_order) return "'fortran_order' is neither True nor False";
        } else if (take(&text, "'shape':")) {
            has_shape = take_shape(&text, h);
            if (!has_shape) return "'shape' is not a tuple of at most 8 sizes";
        } else {
            return "the header holds something besides descr, fortran_order and shape";
        }
        skip_space(&text);
        if (!take(&text, ",") && *text != '}') return "the header is not a dictionary";
    }
    return has_descr && has_order && has_shape ? NULL : "the header lacks descr, fortran_order or shape";
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static const struct kind *find_kind(const char *descr) {
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(descr + 1, kinds[i].name) == 0 &&
            (descr[0] == '<' || descr[0] == '>' || (descr[0] == '|' && kinds[i].bytes == 1)))
            return &kinds[i];
    return NULL;
}

static cld_status read_header(cld_reader *r, npy_header *h) {
    unsigned char prefix[12];
    if (r->bytes < 10)
        return cld_fail(CLD_IO, "%s: not an .npy file (it has %d bytes)", r->path, (int)r->bytes);
    CLD_TRY(cld_reader_get(r, prefix, 0, 10));
    if (memcmp(prefix, magic, sizeof magic) != 0)
        return cld_fail(CLD_IO, "%s: not an .npy file (it does not start with \\x93NUMPY)", r->path);
    int version = prefix[6];
    if (version < 1 || version > 3)
        return cld_fail(CLD_IO, "%s: .npy version %d is not known", r->path, version);
    uint64_t start = version == 1 ? 10 : 12, length = prefix[8] | (uint64_t)prefix[9] << 8;
    if (version > 1) {
        if (r->bytes < 12) return cld_fail(CLD_IO, "%s: damaged file: its header is cut off", r->path);
        CLD_TRY(cld_reader_get(r, prefix, 0, 12));
        length |= (uint64_t)prefix[10] << 16 | (uint64_t)prefix[11] << 24;
    }
    if (length > r->bytes - start)
        return cld_fail(CLD_IO, "%s: damaged file: its header is cut off", r->path);

    char *text = malloc(length + 1), descr[16] = "";
    if (!text) return cld_fail(CLD_NOMEM, "%s: out of memory for the header", r->path);
    cld_status status = cld_reader_get(r, text, start, length);
    if (status == CLD_OK) {
        text[length] = '\0';
        const char *problem = parse_header(text, h, descr, sizeof descr);
        if (problem) status = cld_fail(CLD_IO, "%s: damaged file: %s", r->path, problem);
    }
    free(text);
    CLD_TRY(status);
    h->data_start = start + length;
    h->kind = find_kind(descr);
    h->big_endian = descr[0] == '>';
    if (h->kind) return CLD_OK;
    return cld_fail(
        CLD_UNSUPPORTED,
        "%s: the type '%s' is not known; one of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 after < or > or |",
        r->path, descr);
}

/* ---- the elements -------------------------------------------------------------------------------------- */

/* Numbers of the file's kind, which lie at the end of data, to those of its dtype from the beginning on, which are at
 * least as wide: none is overwritten before it is read. */
static cld_status convert(char *data, int64_t count, const npy_header *h, const char *path) {
    size_t from = h->kind->bytes, to = cld_dtype_size(h->kind->dtype);
    const unsigned char *in = (unsigned char *)data + (size_t)count * (to - from);
    char sign = h->kind->name[0];
    for (int64_t i = 0; i < count; i++, in += from, data += to) {
        uint64_t bits = 0;
        for (size_t b = 0; b < from; b++) bits |= (uint64_t)in[h->big_endian ? from - 1 - b : b] << 8 * b;
        if (sign == 'i') {
            int unused = 64 - 8 * (int)from;
            bits = (uint64_t)((int64_t)(bits << unused) >> unused);
        } else if (sign == 'u' && bits > INT64_MAX) {
            return cld_fail(CLD_UNSUPPORTED, "%s: the value %llu does not fit i64, which u8 becomes", path,
                            (unsigned long long)bits);
        }
        memcpy(data, &bits, to);
    }
    return CLD_OK;
}

/* A view in which the dense column-major bytes of t have their logical order: t itself has the shape reversed. */
static cld_tensor *as_fortran(cld_tensor *t) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    for (int i = 0; i < t->a.ndim; i++) {
        shape[i] = t->a.shape[t->a.ndim - 1 - i];
        strides[i] = t->a.strides[t->a.ndim - 1 - i];
    }
    return cld_tensor_view(t, t->a.ndim, shape, strides, t->a.data);
}

static cld_tensor *read_array(cld_reader *r) {
    npy_header h = {0};
    CLD_TRY_NULL(read_header(r, &h));
    int64_t shape[CLD_MAX_DIMS];
    uint64_t bytes = h.kind->bytes;
    bool fits = true;
    for (int i = 0; i < h.ndim; i++) {
        shape[i] = h.shape[h.fortran_order ? h.ndim - 1 - i : i];
        fits = fits && !__builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes);
    }
    if (!fits || bytes != r->bytes - h.data_start)
        return cld_fail_null(CLD_IO,
                             "%s: damaged file: %llu bytes of data do not fill the shape in its header",
                             r->path, (unsigned long long)(r->bytes - h.data_start));
    CLD_AUTO cld_tensor *t = cld_tensor_new(h.kind->dtype, h.ndim, shape, cld_cpu_backend());
    if (!t) return (void)cld_fail_in("%s", r->path), NULL;
    size_t wider = (size_t)cld_numel(&t->a) * (cld_dtype_size(h.kind->dtype) - h.kind->bytes);
    CLD_TRY_NULL(cld_reader_get(r, (char *)t->a.data + wider, h.data_start, bytes));
    if (wider || h.big_endian || strcmp(h.kind->name, "u8") == 0)
        CLD_TRY_NULL(convert(t->a.data, cld_numel(&t->a), &h, r->path));
    return h.fortran_order ? as_fortran(t) : cld_tensor_steal(&t);
}

cld_tensor *cld_npy_load(const char *path) {
    cld_reader r;
    CLD_TRY_NULL(cld_reader_open(&r, path));
    cld_tensor *t = read_array(&r);
    cld_reader_close(&r);
    return t;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* The dictionary, padded so that the data starts at a multiple of 64 bytes; returns its length. */
static size_t write_header(char *out, size_t room, const cld_array *a, const struct kind *kind) {
    int used = snprintf(out, room, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                        kind->bytes == 1 ? '|' : '<', kind->name);
    for (int i = 0; i < a->ndim; i++)
        used += snprintf(out + used, room - (size_t)used, i ? " %lld," : "%lld,", (long long)a->shape[i]);
    if (a->ndim > 1) used--; /* Python writes (3,) but (3, 4) */
    used += snprintf(out + used, room - (size_t)used, "), }");
    while ((10 + used + 1) % 64) out[used++] = ' ';
    out[used++] = '\n';
    return (size_t)used;
}

cld_status cld_npy_save(const char *path, cld_tensor *t) {
    char header[512];
    const struct kind *kind = NULL;
    for (size_t i = 0; i < KINDS && !kind; i++)
        if (kinds[i].dtype == t->a.dtype) kind = &kinds[i];
    if (!kind)
        return cld_fail(CLD_INVALID, "cannot write '%s': NumPy has no %s; convert the tensor to f32 first",
                        path, cld_dtype_name(t->a.dtype));
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(t);
    if (!dense) return cld_error_code();
    size_t length = write_header(header, sizeof header, &dense->a, kind);
    unsigned char version_and_length[4] = {1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    cld_writer_put(&w, magic, sizeof magic);
    cld_writer_put(&w, version_and_length, sizeof version_and_length);
    cld_writer_put(&w, header, length);
    cld_writer_put(&w, dense->a.data, (size_t)cld_numel(&dense->a) * cld_dtype_size(dense->a.dtype));
    return cld_writer_commit(&w);
}
