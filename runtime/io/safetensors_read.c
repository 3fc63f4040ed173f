/* Reading safetensors files. The header is scanned once, in place (json_scan.h); nothing in it is used before it has
 * been checked. We accept what the format's own reader accepts, except for repeated names, which the format forbids. */
#include "runtime/io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/io/float8.h"

/* The limit of the format's reference reader: 100 MB of names and shapes is not a checkpoint. */
#define MOST_HEADER 100000000u
/* The limit for tensors and for metadata entries: the largest models have some hundred thousand tensors. */
#define MOST_ENTRIES 1000000u

/* Every dtype of the format. */
static const struct dtype {
    cld_number_type type;
    int bits;
} dtypes[] = {
    {{'f', 4, false, CLD_F32, "F32"}, 32},
    {{'f', 8, false, CLD_F64, "F64"}, 64},
    {{'f', 2, false, CLD_F16, "F16"}, 16},
    {{'f', 2, false, CLD_BF16, "BF16"}, 16},
    {{'i', 8, false, CLD_I64, "I64"}, 64},
    {{'i', 4, false, CLD_I32, "I32"}, 32},
    {{'i', 2, false, CLD_I32, "I16"}, 16},
    {{'i', 1, false, CLD_I32, "I8"}, 8},
    {{'u', 8, false, CLD_I64, "U64"}, 64},
    {{'u', 4, false, CLD_I64, "U32"}, 32},
    {{'u', 2, false, CLD_I32, "U16"}, 16},
    {{'u', 1, false, CLD_U8, "U8"}, 8},
    {{'b', 1, false, CLD_U8, "BOOL"}, 8},
    {{CLD_E4M3, 1, false, CLD_F32, "F8_E4M3"}, 8},
    {{CLD_E5M2, 1, false, CLD_F32, "F8_E5M2"}, 8},
    {{CLD_E8M0, 1, false, CLD_F32, "F8_E8M0"}, 8},
    {{CLD_E4M3FNUZ, 1, false, CLD_F32, "F8_E4M3FNUZ"}, 8},
    {{CLD_E5M2FNUZ, 1, false, CLD_F32, "F8_E5M2FNUZ"}, 8},
    {{.name = "C64"}, 64},
    {{.name = "F6_E2M3"}, 6},
    {{.name = "F6_E3M2"}, 6},
    {{.name = "F4"}, 4},
};
#define DTYPES (sizeof dtypes / sizeof *dtypes)

const cld_number_type *cld_safetensors_type(const char *name) {
    for (size_t i = 0; i < DTYPES; i++)
        if (strcmp(dtypes[i].type.name, name) == 0) return dtypes[i].type.bytes ? &dtypes[i].type : NULL;
    return NULL;
}

const cld_number_type *cld_safetensors_type_of(const cld_tensor *t) {
    char kind = 0;
    uint8_t bytes = (uint8_t)cld_dtype_size(t->a.dtype);
    bool came = cld_numbers_came_as(t, &kind, &bytes);
    for (size_t i = 0; i < DTYPES; i++) { /* a dtype's own type comes before the others that become it */
        const cld_number_type *type = &dtypes[i].type;
        if (type->dtype == t->a.dtype && type->bytes == bytes && (!came || type->kind == kind)) return type;
    }
    return NULL; /* cannot happen: every dtype has one */
}

/* ---- the header ---------------------------------------------------------------------------------------- */

/* Names come from the file and may have any length, hence %.100s. */
#define DAMAGED(file, ...)                                                                                   \
    (cld_fail(CLD_IO, __VA_ARGS__), cld_fail_in("%s: damaged file", (file)->reader.path))

static cld_status foreign(const cld_safetensors *f, const char *why) {
    return cld_fail(CLD_IO, "%s: not a safetensors or PyTorch file (%s)", f->reader.path, why);
}

/* Reads the header's text; sets data_start. */
static cld_status read_text(cld_safetensors *f) {
    unsigned char prefix[8];
    uint64_t length = 0, size = f->reader.bytes;
    if (size == 0) return cld_fail(CLD_IO, "%s: the file is empty", f->reader.path);
    if (size < sizeof prefix) return foreign(f, "shorter than its length prefix");
    CLD_TRY(cld_reader_get(&f->reader, prefix, 0, sizeof prefix));
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    if (length < 2 || length > MOST_HEADER) return foreign(f, "its first 8 bytes are not a header length");
    if (size < 9) return DAMAGED(f, "it ends after the length prefix");
    unsigned char first;
    CLD_TRY(cld_reader_get(&f->reader, &first, 8, 1));
    if (first != '{') return foreign(f, "no JSON object follows its first 8 bytes");
    if (length > size - 8)
        return DAMAGED(f, "the header claims %llu bytes, but only %llu follow the length prefix",
                       (unsigned long long)length, (unsigned long long)(size - 8));
    f->data_start = 8 + length;
    f->header = malloc(length);
    if (!f->header) return cld_fail(CLD_NOMEM, "%s: out of memory for the header", f->reader.path);
    return cld_reader_get(&f->reader, f->header, 8, (size_t)length);
}

static cld_status not_json(const cld_safetensors *f, const cld_json *j) {
    return DAMAGED(f, "the header is not JSON: %s at byte %zu", j->problem, 8 + (size_t)(j->at - f->header));
}

/* Room for one more item; NULL with an error if there is none. `what` is for the message. */
static void *next_place(const cld_safetensors *f, void **list, size_t count, size_t *room, size_t size,
                        const char *what) {
    if (count == MOST_ENTRIES)
        return cld_fail_null(CLD_UNSUPPORTED, "%s: it has more than %u %s", f->reader.path, MOST_ENTRIES,
                             what);
    if (count == *room) {
        size_t wanted = *room ? 2 * *room : 64;
        void *grown = realloc(*list, wanted * size);
        if (!grown) return cld_fail_null(CLD_NOMEM, "%s: out of memory for its %s", f->reader.path, what);
        *list = grown;
        *room = wanted;
    }
    return memset((char *)*list + count * size, 0, size);
}

static bool is(const cld_text *text, const char *word) {
    return text->length == strlen(word) && memcmp(text->data, word, text->length) == 0;
}

static int by_text(const cld_text *a, const cld_text *b) {
    int order = memcmp(a->data, b->data, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int by_key(const void *a, const void *b) {
    return by_text(&((const cld_safetensors_fact *)a)->key, &((const cld_safetensors_fact *)b)->key);
}

static cld_status read_metadata(cld_safetensors *f, cld_json *j) {
    cld_text key;
    if (cld_json_peek(j) == 'n') return cld_json_skip(j) ? CLD_OK : not_json(f, j); /* null */
    if (cld_json_peek(j) != '{')
        return cld_json_skip(j) ? DAMAGED(f, "__metadata__ is not an object") : not_json(f, j);
    cld_json_open(j, '{');
    for (bool first = true; cld_json_member(j, &first, &key);) {
        if (cld_json_peek(j) != '"')
            return cld_json_skip(j) ? DAMAGED(f, "metadata '%.100s' is not a string", key.data)
                                    : not_json(f, j);
        cld_safetensors_fact *fact = next_place(f, (void **)&f->metadata, f->metadata_count,
                                                &f->metadata_room, sizeof *fact, "entries of metadata");
        if (!fact) return cld_error_code();
        fact->key = key;
        if (cld_json_string(j, &fact->value)) f->metadata_count++;
    }
    if (j->problem) return not_json(f, j);
    if (f->metadata_count) qsort(f->metadata, f->metadata_count, sizeof *f->metadata, by_key);
    for (size_t i = 1; i < f->metadata_count; i++)
        if (by_key(&f->metadata[i - 1], &f->metadata[i]) == 0)
            return DAMAGED(f, "metadata '%.100s' is a duplicate", f->metadata[i].key.data);
    return CLD_OK;
}

/* What has been read of an entry so far. */
typedef struct description {
    cld_text dtype;
    bool has_shape, has_offsets;
    uint64_t elements;
    bool overflows;
} description;

static cld_status read_shape(cld_safetensors *f, cld_safetensors_entry *e, description *d, cld_json *j) {
    uint64_t extent, product = 1; /* of all but zeros, since strides are computed from it */
    bool empty = false;
    cld_json_open(j, '[');
    for (bool first = true; cld_json_element(j, &first); e->ndim++) {
        if (!cld_json_unsigned(j, &extent))
            return cld_json_skip(j) ? DAMAGED(f, "dimension %u of tensor '%.100s' is not a size", e->ndim + 1,
                                              e->name.data)
                                    : not_json(f, j);
        if (e->ndim < CLD_MAX_DIMS) e->shape[e->ndim] = (int64_t)extent;
        empty = empty || extent == 0;
        if (extent && (__builtin_mul_overflow(product, extent, &product) || product > INT64_MAX / 8))
            e->too_large = true;
    }
    d->has_shape = true;
    d->elements = empty ? 0 : product;
    d->overflows = e->too_large && !empty;
    return j->problem ? not_json(f, j) : CLD_OK;
}

static cld_status read_offsets(cld_safetensors *f, cld_safetensors_entry *e, description *d, cld_json *j) {
    uint64_t offset[2] = {0};
    int count = 0;
    cld_json_open(j, '[');
    for (bool first = true; cld_json_element(j, &first); count++)
        if (count == 2 || !cld_json_unsigned(j, &offset[count]))
            return cld_json_skip(j)
                       ? DAMAGED(f, "the offsets of tensor '%.100s' are not a range", e->name.data)
                       : not_json(f, j);
    if (j->problem) return not_json(f, j);
    if (count != 2 || offset[1] < offset[0])
        return DAMAGED(f, "the offsets of tensor '%.100s' are not a range", e->name.data);
    e->begin = offset[0];
    e->end = offset[1];
    d->has_offsets = true;
    return CLD_OK;
}

/* Sets the entry's type, known or not, and checks that its elements fill its bytes. */
static cld_status check_size(cld_safetensors *f, cld_safetensors_entry *e, const description *d) {
    const struct dtype *known = NULL;
    for (size_t i = 0; i < DTYPES && !known; i++)
        if (is(&d->dtype, dtypes[i].type.name)) known = &dtypes[i];
    e->type = known ? known->type : (cld_number_type){.name = d->dtype.data};
    if (!known) return CLD_OK; /* its elements may have any size */
    uint64_t bits = d->elements;
    if (d->overflows || __builtin_mul_overflow(bits, (uint64_t)known->bits, &bits) || bits % 8 ||
        bits / 8 != e->end - e->begin)
        return DAMAGED(f, "tensor '%.100s': its %s elements do not fill its %llu bytes", e->name.data,
                       e->type.name, (unsigned long long)(e->end - e->begin));
    return CLD_OK;
}

static cld_status read_entry(cld_safetensors *f, cld_text name, cld_json *j) {
    cld_text key;
    description d = {0};
    cld_safetensors_entry *e = next_place(f, (void **)&f->entries, f->count, &f->room, sizeof *e, "tensors");
    if (!e) return cld_error_code();
    e->name = name;
    bool described = cld_json_peek(j) == '{';
    if (described) cld_json_open(j, '{');
    for (bool first = true; described && cld_json_member(j, &first, &key);) {
        char next = cld_json_peek(j);
        if (is(&key, "dtype")) {
            described = next == '"' && !d.dtype.data;
            if (described) cld_json_string(j, &d.dtype);
        } else if (is(&key, "shape")) {
            described = next == '[' && !d.has_shape;
            if (described) CLD_TRY(read_shape(f, e, &d, j));
        } else if (is(&key, "data_offsets")) {
            described = next == '[' && !d.has_offsets;
            if (described) CLD_TRY(read_offsets(f, e, &d, j));
        } else {
            cld_json_skip(j);
        }
    }
    if (!described) cld_json_skip(j); /* what is there instead may not even be JSON */
    if (j->problem) return not_json(f, j);
    if (!described || !d.dtype.data || !d.has_shape || !d.has_offsets)
        return DAMAGED(f, "tensor '%.100s' is not described by one dtype, one shape and one data_offsets",
                       name.data);
    CLD_TRY(check_size(f, e, &d));
    f->count++;
    return CLD_OK;
}

static int by_name(const void *a, const void *b) {
    return by_text(&((const cld_safetensors_entry *)a)->name, &((const cld_safetensors_entry *)b)->name);
}

static int by_place(const void *a, const void *b) {
    const cld_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1; /* empty tensors first */
    return by_name(a, b);
}

static cld_status check_names(cld_safetensors *f) {
    if (f->count) qsort(f->entries, f->count, sizeof *f->entries, by_name);
    for (size_t i = 1; i < f->count; i++)
        if (by_name(&f->entries[i - 1], &f->entries[i]) == 0)
            return DAMAGED(f, "tensor '%.100s' is a duplicate: the header describes it twice",
                           f->entries[i].name.data);
    return CLD_OK;
}

/* Checks that the tensors lie without gap or overlap up to the end of the file. */
static cld_status check_places(cld_safetensors *f) {
    uint64_t at = 0, room = f->reader.bytes - f->data_start;
    if (f->count) qsort(f->entries, f->count, sizeof *f->entries, by_place);
    for (size_t i = 0; i < f->count; i++) {
        const cld_safetensors_entry *e = &f->entries[i];
        if (e->end > room)
            return DAMAGED(f, "tensor '%.100s' ends at data byte %llu, but the file at %llu: it is cut off",
                           e->name.data, (unsigned long long)e->end, (unsigned long long)room);
        if (e->begin != at)
            return DAMAGED(f, "tensor '%.100s' starts at data byte %llu, expected %llu: %s", e->name.data,
                           (unsigned long long)e->begin, (unsigned long long)at,
                           e->begin < at ? "tensors overlap" : "there is a gap");
        at = e->end;
    }
    if (at != room) return DAMAGED(f, "%llu bytes follow the last tensor", (unsigned long long)(room - at));
    return CLD_OK;
}

static cld_status read_header(cld_safetensors *f) {
    CLD_TRY(read_text(f));
    cld_json j = {.at = f->header, .end = f->header + (f->data_start - 8)};
    cld_text name;
    bool has_metadata = false;
    cld_json_open(&j, '{');
    for (bool first = true; cld_json_member(&j, &first, &name);) {
        if (!is(&name, "__metadata__")) {
            CLD_TRY(read_entry(f, name, &j));
            continue;
        }
        if (has_metadata) return DAMAGED(f, "__metadata__ is a duplicate");
        has_metadata = true;
        CLD_TRY(read_metadata(f, &j));
    }
    if (!cld_json_finish(&j)) return not_json(f, &j);
    CLD_TRY(check_names(f));
    return check_places(f);
}

cld_safetensors *cld_safetensors_open(const char *path) {
    cld_safetensors *f = calloc(1, sizeof *f);
    if (!f) return cld_fail_null(CLD_NOMEM, "out of memory for the file '%s'", path);
    cld_status status = cld_reader_open(&f->reader, path);
    if (status == CLD_OK) status = read_header(f);
    if (status == CLD_OK) return f;
    cld_safetensors_close(f);
    return NULL;
}

cld_tensor *cld_safetensors_read(cld_safetensors *f, size_t i) {
    const cld_safetensors_entry *e = &f->entries[i];
    if (e->type.bytes == 0)
        return cld_fail_null(CLD_UNSUPPORTED,
                             "its dtype %.100s cannot be read; F64 F32 F16 BF16 F8, I and U of 8 to 64 "
                             "bits and BOOL can",
                             e->type.name);
    if (e->ndim > CLD_MAX_DIMS)
        return cld_fail_null(CLD_UNSUPPORTED, "it has %u dimensions; a tensor has at most %d", e->ndim,
                             CLD_MAX_DIMS);
    if (e->too_large) return cld_fail_null(CLD_UNSUPPORTED, "its shape is too large for a tensor");
    cld_tensor *t = cld_read_numbers(&f->reader, f->data_start + e->begin, e->type, (int)e->ndim, e->shape);
    if (!t && cld_error_code() != CLD_UNSUPPORTED)
        cld_fail_in("tensor '%.100s': %s", e->name.data, f->reader.path);
    return t;
}

void cld_safetensors_close(cld_safetensors *f) {
    if (!f) return;
    free(f->entries);
    free(f->metadata);
    free(f->header);
    cld_reader_close(&f->reader);
    free(f);
}
