/* Reading through a tar archive. The contract is in tar.h.
 *
 * A header is a block of 512 bytes. The file's bytes follow, padded to whole blocks. Long names, and facts for which
 * ustar has no field, are members of their own before the member that they describe.
 */
#define _GNU_SOURCE
#include "runtime/io/tar.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/core/process.h"
#include "runtime/io/file.h"
#include "runtime/io/image_name.h"

#define BLOCK    512
#define MOST_PAX (1 << 20) /* bytes of one extended header */

typedef struct header { /* the fields need not end in a zero byte */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8],
        owner[32], group[32], device[16], prefix[155], unused[12];
} header;
_Static_assert(sizeof(header) == BLOCK, "a header is one block");

/* One archive: the whole file, or a member of it. */
typedef struct archive {
    cld_tar *t;
    cld_reader *r;
    uint64_t at, end;  /* in the file */
    const char *inner; /* the member's name; NULL: the file itself */
    /* from extended headers, for the next member */
    char *name;
    uint64_t size;
    bool has_size;
} archive;

/* "<path>: in 'n01440764.tar': <what>" */
static cld_status damaged(const archive *a, const char *what, const char *name) {
    return cld_fail(CLD_IO, "%.300s%s%.100s%s: %s%s%.200s%s at byte %llu", a->t->path,
                    a->inner ? ": in '" : "", a->inner ? a->inner : "", a->inner ? "'" : "", what,
                    name ? " '" : "", name ? name : "", name ? "'" : "", (unsigned long long)a->at);
}

/* ---- one header ---------------------------------------------------------------------------------------- */

static bool is_zero(const header *h) {
    const char *bytes = (const char *)h;
    for (int i = 0; i < BLOCK; i++)
        if (bytes[i]) return false;
    return true;
}

/* Reads octal digits with blanks around them, or a binary number if the first bit is set. False if it is neither, is
 * negative, or does not fit 63 bits. */
static bool read_number(const char *field, size_t length, uint64_t *out) {
    const unsigned char *bytes = (const unsigned char *)field;
    size_t i = 0;
    *out = 0;
    if (bytes[0] & 0x80) {
        *out = bytes[0] & 0x7F;
        for (i = 1; i < length; i++) {
            if (*out >> 55) return false;
            *out = *out << 8 | bytes[i];
        }
        return true;
    }
    while (i < length && bytes[i] == ' ') i++;
    for (; i < length && bytes[i] >= '0' && bytes[i] <= '7'; i++) *out = *out << 3 | (bytes[i] - '0');
    return i == length || bytes[i] == ' ' || bytes[i] == '\0';
}

/* Most programs sum unsigned bytes, some signed ones. */
static bool checksum_holds(const header *h) {
    uint64_t said;
    int64_t as_unsigned = 0, as_signed = 0;
    const char *bytes = (const char *)h;
    for (size_t i = 0; i < BLOCK; i++) {
        bool own = i >= offsetof(header, checksum) && i < offsetof(header, type);
        as_unsigned += own ? ' ' : (unsigned char)bytes[i];
        as_signed += own ? ' ' : (signed char)bytes[i];
    }
    return read_number(h->checksum, sizeof h->checksum, &said) &&
           ((int64_t)said == as_unsigned || (int64_t)said == as_signed);
}

static cld_status fail_first(const archive *a, const header *h) {
    static const struct {
        const char *magic, *name, *tool;
        size_t length;
    } known[] = {
        {"\x1f\x8b", "gzip", "gunzip", 2},
        {"BZh", "bzip2", "bunzip2", 3},
        {"\xfd"
         "7zXZ",
         "xz", "unxz", 5},
        {"\x28\xb5\x2f\xfd", "zstd", "unzstd", 4},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (memcmp(h, known[i].magic, known[i].length) == 0)
            return cld_fail(
                CLD_IO,
                "%.300s%s%.100s: compressed with %s: files can be read in place only from an archive that "
                "is not; unpack it with tar -xf, or make it a plain .tar with %s",
                a->t->path, a->inner ? ": " : "", a->inner ? a->inner : "", known[i].name, known[i].tool);
    return damaged(a, memcmp(h, "PK\3\4", 4) == 0 ? "a zip archive, not a tar archive" : "not a tar archive",
                   NULL);
}

/* ---- names --------------------------------------------------------------------------------------------- */

/* Copies the name to `out` without ".", "//" and a slash at the end; *is_folder says whether it had one. */
static cld_status clean_name(const archive *a, const char *name, char out[PATH_MAX], bool *is_folder) {
    size_t length = 0, whole = strlen(name);
    *is_folder = whole > 0 && name[whole - 1] == '/';
    if (*name == '/') return damaged(a, "an absolute name, which is refused:", name);
    if (whole >= PATH_MAX) return damaged(a, "a name that is too long:", name);
    for (const char *from = name; *from;) {
        size_t part = strcspn(from, "/");
        if (part == 2 && memcmp(from, "..", 2) == 0)
            return damaged(a, "a name with '..', which is refused:", name);
        if (part > 0 && !(part == 1 && *from == '.')) {
            if (length) out[length++] = '/';
            memcpy(out + length, from, part);
            length += part;
        }
        from += part + (from[part] == '/');
    }
    out[length] = '\0';
    if (length == 0 && !*is_folder && strcmp(name, ".") != 0)
        return damaged(a, "a member without a name", NULL);
    return CLD_OK;
}

static cld_status header_name(const archive *a, const header *h, char out[PATH_MAX], bool *is_folder) {
    char joined[sizeof h->prefix + sizeof h->name + 2];
    bool has_prefix = memcmp(h->magic, "ustar\0", 6) == 0 && h->prefix[0];
    if (a->name) return clean_name(a, a->name, out, is_folder);
    snprintf(joined, sizeof joined, "%.*s%s%.*s", has_prefix ? (int)sizeof h->prefix : 0, h->prefix,
             has_prefix ? "/" : "", (int)sizeof h->name, h->name);
    return clean_name(a, joined, out, is_folder);
}

/* ---- extended headers ---------------------------------------------------------------------------------- */

/* The member's bytes with a zero byte after them; the caller frees them. */
static char *read_text(archive *a, uint64_t size) {
    if (size > MOST_PAX) {
        damaged(a, "an extended header of more than a megabyte", NULL);
        return NULL;
    }
    char *text = malloc(size + 1);
    if (!text) return cld_fail_null(CLD_NOMEM, "%.300s: out of memory for a header", a->t->path);
    text[size] = '\0';
    if (cld_reader_get(a->r, text, a->at + BLOCK, size) == CLD_OK) return text;
    free(text);
    return NULL;
}

/* A long name of GNU tar. */
static cld_status take_long_name(archive *a, uint64_t size) {
    char *text = read_text(a, size);
    if (!text) return cld_error_code();
    free(a->name);
    a->name = text;
    return CLD_OK;
}

static cld_status take_record(archive *a, const char *key, char *value, size_t length) {
    if (strncmp(key, "GNU.sparse.", 11) == 0) return damaged(a, "a sparse file, which is not read", NULL);
    if (strcmp(key, "path") == 0) {
        if (strlen(value) != length) return damaged(a, "a name with a zero byte", NULL);
        char *name = strdup(value);
        if (!name) return cld_fail(CLD_NOMEM, "%.300s: out of memory for a name", a->t->path);
        free(a->name);
        a->name = name;
    } else if (strcmp(key, "size") == 0) {
        a->size = 0;
        a->has_size = true;
        for (size_t i = 0; i < length || length == 0; i++) {
            if (length == 0 || length > 18 || value[i] < '0' || value[i] > '9')
                return damaged(a, "an extended header whose size is not a number", NULL);
            a->size = 10 * a->size + (uint64_t)(value[i] - '0');
        }
    }
    return CLD_OK;
}

/* Reads records "<length> <key>=<value>\n"; the length is that of the whole record, in decimal digits. */
static cld_status take_records(archive *a, char *text, size_t size) {
    for (char *at = text, *end = text + size; at < end && *at;) {
        char *value_at, *key, *record_end;
        size_t length = 0;
        char *digit = at;
        while (*digit >= '0' && *digit <= '9' && length < MOST_PAX)
            length = 10 * length + (size_t)(*digit++ - '0');
        key = digit + 1;
        record_end = length <= (size_t)(end - at) ? at + length : NULL;
        if (digit == at || *digit != ' ' || !record_end || record_end <= key || record_end[-1] != '\n' ||
            !(value_at = memchr(key, '=', (size_t)(record_end - key))))
            return damaged(a, "a damaged extended header", NULL);
        *value_at++ = '\0';
        record_end[-1] = '\0';
        CLD_TRY(take_record(a, key, value_at, (size_t)(record_end - 1 - value_at)));
        at = record_end;
    }
    return CLD_OK;
}

static cld_status take_pax(archive *a, uint64_t size) {
    char *text = read_text(a, size);
    if (!text) return cld_error_code();
    cld_status status = take_records(a, text, (size_t)size);
    free(text);
    return status;
}

/* ---- members ------------------------------------------------------------------------------------------- */

static cld_status read_archive(archive *a);

static bool is_tar_name(const char *name) {
    size_t length = strlen(name);
    return length > 4 && strcasecmp(name + length - 4, ".tar") == 0;
}

static cld_status add_member(archive *a, const char *name, uint64_t offset, uint64_t size) {
    cld_tar *t = a->t;
    uint64_t place;
    size_t count = (size_t)t->count + 1;
    char whole[2 * PATH_MAX];
    size_t length = strlen(name), prefix = a->inner ? strlen(a->inner) - 4 : 0; /* without .tar */
    if (prefix) {
        memcpy(whole, a->inner, prefix);
        whole[prefix++] = '/';
    }
    memcpy(whole + prefix, name, length + 1);
    CLD_TRY(cld_grow((void **)&t->offsets, &t->room.offsets, count, sizeof *t->offsets));
    CLD_TRY(cld_grow((void **)&t->sizes, &t->room.sizes, count, sizeof *t->sizes));
    CLD_TRY(cld_grow((void **)&t->names, &t->room.names, count, sizeof *t->names));
    CLD_TRY(cld_strings_add(&t->text, whole, prefix + length, &place));
    t->offsets[t->count] = (int64_t)offset;
    t->sizes[t->count] = (int64_t)size;
    t->names[t->count] = (int64_t)place;
    t->count++;
    if (t->count % 1024 == 0 && cld_stop_requested()) return cld_fail(CLD_INTERRUPTED, "interrupted");
    return CLD_OK;
}

static cld_status take_file(archive *a, const char *name, uint64_t size) {
    uint64_t offset = a->at + BLOCK;
    if (!is_tar_name(name)) return add_member(a, name, offset, size);
    if (a->inner)
        return damaged(a, "an archive in an archive in an archive; only two levels are read:", name);
    archive inner = {.t = a->t, .r = a->r, .at = offset, .end = offset + size, .inner = name};
    int64_t before = a->t->count;
    cld_status status = read_archive(&inner);
    free(inner.name);
    if (status == CLD_OK && a->t->count == before)
        status = damaged(a, "an archive in the archive, without files:", name);
    return status;
}

/* Members that we leave out must not be images. */
static cld_status check_left_out(const archive *a, char type, const char *name) {
    if (cld_image_kind_of(name) != CLD_READABLE || type == '5') return CLD_OK;
    return damaged(a,
                   type == '1' || type == '2'
                       ? "an image that is a link (tar's --dereference --hard-dereference make it a file):"
                       : "an image that is not a regular file:",
                   name);
}

/* Reads the member with this header and moves a->at past it. */
static cld_status take_member(archive *a, const header *h) {
    char name[PATH_MAX];
    bool is_folder, has_bytes = !(h->type >= '1' && h->type <= '6');
    uint64_t size = 0, room = a->end - a->at - BLOCK;
    bool is_extension = h->type == 'L' || h->type == 'K' || h->type == 'x' || h->type == 'g';
    if (!read_number(h->size, sizeof h->size, &size))
        return damaged(a, "a header whose size is not a number", NULL);
    if (a->has_size && !is_extension) size = a->size;
    if (!has_bytes) size = 0;
    if (size > room || (BLOCK - size % BLOCK) % BLOCK > room - size) {
        const char *what = "truncated: the archive ends within";
        return is_extension || header_name(a, h, name, &is_folder) != CLD_OK ? damaged(a, what, "a header")
                                                                             : damaged(a, what, name);
    }
    if (h->type == 'L') CLD_TRY(take_long_name(a, size));
    if (h->type == 'x') CLD_TRY(take_pax(a, size));
    if (!is_extension) {
        CLD_TRY(header_name(a, h, name, &is_folder));
        if (h->type == 'S') return damaged(a, "a sparse file, which is not read:", name);
        if (h->type == 'M') return damaged(a, "a file that continues from another volume:", name);
        if (!has_bytes) CLD_TRY(check_left_out(a, h->type, name));
        if ((h->type == '0' || h->type == '\0' || h->type == '7') && !is_folder)
            CLD_TRY(take_file(a, name, size));
        free(a->name);
        a->name = NULL;
        a->has_size = false;
    }
    a->at += BLOCK + size + (BLOCK - size % BLOCK) % BLOCK;
    return CLD_OK;
}

static cld_status read_archive(archive *a) {
    uint64_t begin = a->at;
    while (true) {
        header h = {0};
        uint64_t left = a->end - a->at;
        if (left == 0 && a->at == begin) return damaged(a, "empty, not a tar archive", NULL);
        if (left < BLOCK && a->at != begin) return damaged(a, "truncated: no block of zeros ends it", NULL);
        CLD_TRY(cld_reader_get(a->r, &h, a->at, left < BLOCK ? left : BLOCK));
        if (left >= BLOCK && is_zero(&h)) return CLD_OK;
        if (a->at == begin && (left < BLOCK || !checksum_holds(&h))) return fail_first(a, &h);
        if (!checksum_holds(&h))
            return damaged(a, "a header whose checksum is wrong: the archive is damaged", NULL);
        CLD_TRY(take_member(a, &h));
    }
}

/* ---- the whole file ------------------------------------------------------------------------------------ */

cld_tar *cld_tar_scan(const char *path) {
    cld_reader r;
    struct stat facts;
    if (cld_reader_open(&r, path) != CLD_OK) return NULL;
    cld_tar *t = calloc(1, sizeof *t);
    if (t) t->path = strdup(path);
    if (!t || !t->path || fstat(r.fd, &facts) != 0) {
        cld_tar_free(t);
        cld_reader_close(&r);
        return cld_fail_null(CLD_NOMEM, "out of memory for the archive '%.300s'", path);
    }
    t->bytes = r.bytes;
    t->mtime = facts.st_mtim.tv_sec;
    t->mtime_nanoseconds = facts.st_mtim.tv_nsec;
    posix_fadvise(r.fd, 0, 0, POSIX_FADV_RANDOM); /* headers are far apart */
    archive whole = {.t = t, .r = &r, .end = r.bytes};
    cld_status status = read_archive(&whole);
    free(whole.name);
    cld_reader_close(&r);
    if (status == CLD_OK) return t;
    cld_tar_free(t);
    return NULL;
}

void cld_tar_free(cld_tar *t) {
    if (!t) return;
    free(t->path);
    free(t->offsets);
    free(t->sizes);
    free(t->names);
    free(t->index);
    free(t->problem);
    cld_strings_free(&t->text);
    free(t);
}
