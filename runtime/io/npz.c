/* Reading .npz files. The contract is in npz.h. */
#include "runtime/io/npz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/io/npy.h"
#include "runtime/io/zip.h"

/* One deflated byte unpacks to at most 1032. */
#define MOST_GROWTH 1032u

struct cld_npz {
    cld_reader reader;
    cld_zip *zip;     /* NULL: the archive is empty */
    uint64_t claimed; /* bytes of the members so far */
    char *name;       /* of the current member, without .npy */
    char *place;      /* its archive and name, for messages */
};

/* Whether the archive has no members: numpy.savez of nothing writes only a directory's end, which libarchive
 * rejects. */
static cld_status is_empty(cld_npz *z, bool *empty) {
    char head[22] = {0};
    *empty = false;
    if (z->reader.bytes != sizeof head) return CLD_OK;
    CLD_TRY(cld_reader_get(&z->reader, head, 0, sizeof head));
    *empty = memcmp(head, "PK\5\6", 4) == 0;
    return CLD_OK;
}

cld_npz *cld_npz_open(const char *path) {
    cld_npz *z = calloc(1, sizeof *z);
    if (!z) return cld_fail_null(CLD_NOMEM, "out of memory for the file '%s'", path);
    if (cld_reader_open(&z->reader, path) != CLD_OK) {
        free(z);
        return NULL;
    }
    bool empty;
    if (is_empty(z, &empty) == CLD_OK && (empty || (z->zip = cld_zip_open(&z->reader)))) return z;
    cld_npz_close(z);
    return NULL;
}

void cld_npz_close(cld_npz *z) {
    if (!z) return;
    cld_zip_close(z->zip);
    cld_reader_close(&z->reader);
    free(z->name);
    free(z->place);
    free(z);
}

static cld_status take(void *from, void *out, size_t bytes) { return cld_zip_take(from, out, bytes); }

/* Sets the current member's name. *is_array: it ends in .npy, which is cut off. */
static cld_status set_name(cld_npz *z, const char *member, bool *is_array) {
    char shown[512];
    size_t length = strlen(member);
    *is_array = length >= 4 && strcmp(member + length - 4, ".npy") == 0;
    cld_printable(shown, sizeof shown, member, length, CLD_ONE_LINE);
    free(z->name);
    free(z->place);
    size_t room = strlen(z->reader.path) + strlen(shown) + 8;
    z->name = strdup(member);
    z->place = malloc(room);
    if (!z->name || !z->place) return cld_fail(CLD_NOMEM, "%s: out of memory", z->reader.path);
    snprintf(z->place, room, "%s: '%s'", z->reader.path, shown);
    if (*is_array) z->name[length - 4] = '\0';
    return CLD_OK;
}

/* Checks what all members claim to hold against what the archive's bytes can unpack to. */
static cld_status check_claim(cld_npz *z, uint64_t bytes) {
    uint64_t room = z->reader.bytes * MOST_GROWTH;
    if (bytes <= room && z->claimed <= room - bytes) {
        z->claimed += bytes;
        return CLD_OK;
    }
    return cld_fail(CLD_IO, "%s: damaged: the archive of %llu bytes cannot hold its %llu bytes", z->place,
                    (unsigned long long)z->reader.bytes, (unsigned long long)bytes);
}

cld_status cld_npz_next(cld_npz *z, const char **name, cld_tensor **tensor) {
    cld_zip_member member;
    bool is_array;
    *name = NULL;
    *tensor = NULL;
    if (!z->zip) return CLD_OK;
    CLD_TRY(cld_zip_next(z->zip, &member));
    if (!member.name) return CLD_OK;
    CLD_TRY(set_name(z, member.name, &is_array));
    CLD_TRY(check_claim(z, member.bytes));
    *name = z->name;
    if (!is_array) {
        cld_fail(CLD_UNSUPPORTED, "%s: it is not an array: its name does not end in .npy", z->place);
        return CLD_OK;
    }
    cld_npy_source source = {z->place, member.bytes, take, z->zip};
    CLD_AUTO cld_tensor *t = cld_npy_read(&source);
    if (!t) return cld_error_code() == CLD_UNSUPPORTED ? CLD_OK : cld_error_code();
    CLD_TRY(cld_zip_finish(z->zip));
    *tensor = cld_tensor_steal(&t);
    return CLD_OK;
}
