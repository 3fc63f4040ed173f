/* PyTorch's files: which kind one is, and where its pickle and its storages are. */
#define _GNU_SOURCE
#include "runtime/io/torch_parts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"

#define MOST_VALUES (1u << 23) /* of a pickle; its number of bytes is a limit too */

/* ---- the kind of a file -------------------------------------------------------------------------------- */

static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e};

/* The size of the pickle with PyTorch's magic number; 0 if the file does not begin with it. */
static size_t magic_length(const uint8_t *head, size_t there) {
    for (size_t at = 2; at <= 11; at += 9) /* protocol 4 puts a frame of 9 bytes in between */
        if (there >= at + sizeof magic && memcmp(head + at, magic, sizeof magic) == 0)
            return at + sizeof magic;
    return 0;
}

static bool is_zip(const uint8_t *head) {
    return memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0;
}

/* ---- pickles ------------------------------------------------------------------------------------------- */

/* Opens the pickle at `begin`. */
static cld_pickle *open_pickle(cld_torch_file *f, uint64_t begin) {
    bool in_zip = f->format == CLD_TORCH_ZIP;
    uint64_t end = in_zip ? f->data_bytes : f->reader.bytes;
    cld_pickle_source source = {.path = f->reader.path,
                                .kind = f->format == CLD_TORCH_PICKLE ? "a pickle that can be read"
                                                                      : "a PyTorch file that can be read",
                                .reader = &f->reader,
                                .memory = in_zip ? f->data : NULL,
                                .begin = begin,
                                .end = end,
                                .most = end < MOST_VALUES ? (uint32_t)end : MOST_VALUES,
                                .persistent = true};
    return cld_pickle_open(&source);
}

/* ---- legacy -------------------------------------------------------------------------------------------- */

static cld_status damaged(const cld_torch_file *f, const char *what, const char *key) {
    return cld_fail(CLD_IO, "%s: damaged: %s '%.100s'", f->reader.path, what, key);
}

/* Reads the storage at *at, an i64 with the number of its elements and then the elements, and moves *at past it. */
static cld_status read_legacy_storage(cld_torch_file *f, const char *key, uint64_t *at) {
    uint64_t count = 0, there = f->reader.bytes - *at;
    cld__torch_storage *s = cld__torch_storage_of(f, key);
    if (!s) return damaged(f, "nothing refers to its storage", key);
    if (s->there) return damaged(f, "it holds two copies of the storage", key);
    if (!s->type)
        return cld_fail(CLD_UNSUPPORTED, "%s: the type of its storage '%s' is not known", f->reader.path,
                        key);
    uint64_t bytes = cld__torch_storage_bytes(s);
    if (there < sizeof count || bytes > there - sizeof count)
        return cld_fail(
            CLD_IO,
            "%s: truncated: its storage '%s' of %llu bytes should begin at byte %llu, but the file has %llu",
            f->reader.path, key, (unsigned long long)bytes, (unsigned long long)*at,
            (unsigned long long)f->reader.bytes);
    CLD_TRY(cld_reader_get(&f->reader, &count, *at, sizeof count));
    if (count != s->count) return damaged(f, "the pickle gives another size to its storage", key);
    CLD_TRY(cld__torch_read_storage(f, s, *at + sizeof count, NULL));
    s->there = true;
    *at += sizeof count + bytes;
    return CLD_OK;
}

/* Checks that the file holds every storage that the pickle refers to. */
static cld_status check_storages(const cld_torch_file *f) {
    for (size_t i = 0; i < f->storage_count; i++)
        if (f->storages[i].type && !f->storages[i].there)
            return damaged(f, "it lacks the storage", f->storages[i].key);
    return CLD_OK;
}

/* Reads the list of keys, and the storages in the same order. */
static cld_status read_legacy_storages(cld_torch_file *f) {
    uint32_t i;
    char key[256];
    cld_pickle *keys = open_pickle(f, cld_pickle_end(f->pickle));
    if (!keys) return cld_error_code();
    uint64_t at = cld_pickle_end(keys);
    const cld_pickle_value *list = cld_pickle_at(keys, cld_pickle_root(keys));
    cld_status status =
        list->kind == CLD_PICKLE_LIST ? CLD_OK : damaged(f, "its pickles lack", "storage keys");
    if (status == CLD_OK) {
        for (cld_pickle_cursor c = cld_pickle_items(list);
             status == CLD_OK && cld_pickle_next(keys, &c, &i);) {
            const cld_pickle_value *v = cld_pickle_at(keys, i);
            key[0] = '\0';
            if (cld_pickle_is_string(v)) cld_pickle_text(keys, v, key, sizeof key);
            status = read_legacy_storage(f, key, &at);
        }
    }
    cld_pickle_free(keys);
    return status;
}

/* Reads what follows the magic number: first the protocol number, then facts about the writing system, which we
 * ignore. */
static cld_status read_legacy(cld_torch_file *f, uint64_t at) {
    for (int i = 0; i < 2; i++) {
        cld_pickle *p = open_pickle(f, at);
        if (!p) return cld_error_code();
        const cld_pickle_value *version = cld_pickle_at(p, cld_pickle_root(p));
        bool is_1001 = i > 0 || (version->kind == CLD_PICKLE_INTEGER && version->integer == 1001);
        at = cld_pickle_end(p);
        cld_pickle_free(p);
        if (!is_1001)
            return cld_fail(CLD_UNSUPPORTED, "%s: of PyTorch's legacy format only version 1001 can be read",
                            f->reader.path);
    }
    f->pickle = open_pickle(f, at);
    if (!f->pickle) return cld_error_code();
    CLD_TRY(cld__torch_find_storages(f));
    CLD_TRY(read_legacy_storages(f));
    return check_storages(f);
}

/* ---- zip ----------------------------------------------------------------------------------------------- */

/* The most that we read from a zip archive of this size. PyTorch does not compress, but others may have repacked a
 * file. */
static uint64_t zip_bound(const cld_torch_file *f) { return 16 * f->reader.bytes + (1 << 20); }

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static cld_status read_data(cld_torch_file *f, cld_zip *z, const cld_zip_member *m) {
    if (m->bytes > zip_bound(f))
        return cld_fail(CLD_IO, "%s: its member data.pkl claims %llu bytes, but the file has %llu",
                        f->reader.path, (unsigned long long)m->bytes, (unsigned long long)f->reader.bytes);
    f->data_bytes = (size_t)m->bytes;
    f->data = malloc(f->data_bytes + 1);
    f->prefix = strndup(m->name, strlen(m->name) - strlen("data.pkl"));
    if (!f->data || !f->prefix) return cld_fail(CLD_NOMEM, "%s: out of memory", f->reader.path);
    return cld_zip_read(z, f->data, f->data_bytes);
}

/* Other signs of what the archive is. */
typedef struct signs {
    bool is_script;
    char first[64]; /* the first member's name, made printable */
} signs;

static cld_status scan_zip(cld_torch_file *f, cld_zip *z, signs *signs) {
    cld_zip_member m;
    for (;;) {
        CLD_TRY(cld_zip_next(z, &m));
        if (!m.name) return CLD_OK;
        if (!signs->first[0])
            cld_printable(signs->first, sizeof signs->first, m.name, strlen(m.name), CLD_ONE_LINE);
        bool is_data = strcmp(m.name, "data.pkl") == 0 || ends_with(m.name, "/data.pkl");
        if (is_data && !f->data) CLD_TRY(read_data(f, z, &m));
        signs->is_script = signs->is_script || ends_with(m.name, "/constants.pkl");
        if (m.bytes == 3 && ends_with(m.name, "/byteorder")) {
            char order[3];
            CLD_TRY(cld_zip_read(z, order, sizeof order));
            f->big_endian = memcmp(order, "big", 3) == 0;
        }
    }
}

static cld_status check_zip(const cld_torch_file *f, const signs *signs) {
    if (signs->is_script)
        return cld_fail(CLD_UNSUPPORTED,
                        "%s: a TorchScript archive, which holds code; in PyTorch, "
                        "torch.save(torch.jit.load(path).state_dict(), other) writes its weights",
                        f->reader.path);
    if (f->data) return CLD_OK;
    return cld_fail(
        CLD_IO, "%s: a zip archive, but not one of PyTorch's: it has no data.pkl; its first member is '%s'",
        f->reader.path, signs->first);
}

/* Reads the archive's members that are storages. */
static cld_status read_zip_storages(cld_torch_file *f, cld_zip *z) {
    cld_zip_member m;
    size_t prefix = strlen(f->prefix);
    uint64_t total = 0;
    for (;;) {
        CLD_TRY(cld_zip_next(z, &m));
        if (!m.name) return CLD_OK;
        if (strncmp(m.name, f->prefix, prefix) != 0 || strncmp(m.name + prefix, "data/", 5) != 0) continue;
        cld__torch_storage *s = cld__torch_storage_of(f, m.name + prefix + 5);
        if (!s || s->there || !s->type) continue;
        uint64_t bytes = cld__torch_storage_bytes(s);
        if (bytes != m.bytes)
            return cld_fail(CLD_IO,
                            "%s: damaged: its storage '%s' claims %llu bytes, but its member has %llu",
                            f->reader.path, s->key, (unsigned long long)bytes, (unsigned long long)m.bytes);
        if (__builtin_add_overflow(total, bytes, &total) || total > zip_bound(f))
            return cld_fail(CLD_IO, "%s: its storages claim more than %llu bytes, but the file has %llu",
                            f->reader.path, (unsigned long long)zip_bound(f),
                            (unsigned long long)f->reader.bytes);
        CLD_TRY(cld__torch_read_storage(f, s, 0, z));
        s->there = true;
    }
}

static cld_status read_zip(cld_torch_file *f) {
    signs signs = {0};
    cld_zip *z = cld_zip_open(&f->reader);
    if (!z) return cld_error_code();
    cld_status status = scan_zip(f, z, &signs);
    cld_zip_close(z);
    CLD_TRY(status);
    CLD_TRY(check_zip(f, &signs));
    f->pickle = open_pickle(f, 0);
    if (!f->pickle) return cld_error_code();
    CLD_TRY(cld__torch_find_storages(f));
    if (!(z = cld_zip_open(&f->reader))) return cld_error_code();
    status = read_zip_storages(f, z);
    cld_zip_close(z);
    CLD_TRY(status);
    return check_storages(f);
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static cld_status read_file(cld_torch_file *f) {
    uint8_t head[32] = {0};
    size_t there = f->reader.bytes < sizeof head ? (size_t)f->reader.bytes : sizeof head;
    CLD_TRY(cld_reader_get(&f->reader, head, 0, there));
    size_t behind_magic = magic_length(head, there);
    f->format = is_zip(head) ? CLD_TORCH_ZIP : behind_magic ? CLD_TORCH_LEGACY : CLD_TORCH_PICKLE;
    if (f->format == CLD_TORCH_ZIP) return read_zip(f);
    if (f->format == CLD_TORCH_LEGACY) return read_legacy(f, behind_magic);
    f->pickle = open_pickle(f, 0);
    return f->pickle ? CLD_OK : cld_error_code();
}

cld_torch_file *cld_torch_open(const char *path) {
    cld_torch_file *f = calloc(1, sizeof *f);
    if (!f) return cld_fail_null(CLD_NOMEM, "%s: out of memory", path);
    cld_status status = cld_reader_open(&f->reader, path);
    if (status != CLD_OK) {
        free(f);
        return NULL;
    }
    if (read_file(f) == CLD_OK) return f;
    cld_torch_close(f);
    return NULL;
}

void cld_torch_close(cld_torch_file *f) {
    if (!f) return;
    cld_pickle_free(f->pickle);
    cld__torch_free_storages(f);
    cld_reader_close(&f->reader);
    free(f->data);
    free(f->prefix);
    free(f);
}

cld_torch_format cld_torch_format_of(const cld_torch_file *f) { return f->format; }
cld_pickle *cld_torch_pickle(cld_torch_file *f) { return f->pickle; }
