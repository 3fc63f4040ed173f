/* One bit per image, and the reasons in the order in which they were found. */
#define _GNU_SOURCE
#include "runtime/data/bad_images.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 5 /* reasons in the error about too many */

typedef struct bad_image {
    int64_t row;
    char *reason;
} bad_image;

struct cld_bad_images {
    pthread_mutex_t lock;
    _Atomic int references;
    int64_t images, allowed;
    bool strict;
    uint8_t *seen; /* (images / 8) */
    int64_t count; /* bad images found */
    bad_image *found;
    int64_t kept, room; /* with their reasons */
};

cld_bad_images *cld_bad_images_new(int64_t images, double share, bool strict) {
    if (!(share >= 0.0 && share <= 1.0))
        return cld_fail_null(CLD_INVALID, "loader: max_bad is a share of the images, 0 to 1; got %g", share);
    cld_bad_images *b = calloc(1, sizeof *b);
    if (!b) return cld_fail_null(CLD_NOMEM, "loader: out of memory");
    b->references = 1;
    b->images = images;
    int64_t share_of = (int64_t)(share * (double)images);
    b->allowed = share > 0.0 && share_of < 1 ? 1 : share_of;
    b->strict = strict;
    b->seen = calloc((size_t)images / 8 + 1, 1);
    if (!b->seen) {
        free(b);
        return cld_fail_null(CLD_NOMEM, "loader: out of memory");
    }
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

cld_bad_images *cld_bad_images_retain(cld_bad_images *b) {
    atomic_fetch_add(&b->references, 1);
    return b;
}

void cld_bad_images_free(cld_bad_images *b) {
    if (!b || atomic_fetch_sub(&b->references, 1) != 1) return;
    for (int64_t i = 0; i < b->kept; i++) free(b->found[i].reason);
    pthread_mutex_destroy(&b->lock);
    free(b->found);
    free(b->seen);
    free(b);
}

/* With the lock held. If memory is out, the image is counted, but its reason is not kept. */
static void keep(cld_bad_images *b, int64_t row, const char *reason) {
    b->count++;
    if (b->kept == b->room) {
        int64_t room = b->room ? 2 * b->room : 16;
        bad_image *more = realloc(b->found, (size_t)room * sizeof *more);
        if (!more) return;
        b->found = more;
        b->room = room;
    }
    bad_image *next = &b->found[b->kept];
    next->row = row;
    next->reason = strdup(reason);
    if (next->reason) b->kept++;
}

static cld_status too_many(const cld_bad_images *b) {
    char list[900] = "";
    size_t length = 0;
    for (int64_t i = 0; i < b->kept && i < SHOWN && length < sizeof list - 1; i++)
        length += (size_t)snprintf(list + length, sizeof list - length, "%s %.150s", i ? ";" : "",
                                   b->found[i].reason);
    return cld_fail(CLD_IO,
                    "%lld of %lld images cannot be read, more than the %lld that are allowed (max-bad):%s%s",
                    (long long)b->count, (long long)b->images, (long long)b->allowed, list,
                    b->count > SHOWN ? "; ..." : "");
}

cld_status cld_bad_images_add(cld_bad_images *b, int64_t row, const char *reason) {
    if (b->strict) return cld_fail(CLD_IO, "%s", reason);
    cld_status status = CLD_OK;
    pthread_mutex_lock(&b->lock);
    uint8_t bit = (uint8_t)(1u << (row % 8));
    if (!(b->seen[row / 8] & bit)) {
        b->seen[row / 8] |= bit;
        keep(b, row, reason);
    }
    if (b->count > b->allowed) status = too_many(b); /* each time: a later call gets the same answer */
    pthread_mutex_unlock(&b->lock);
    return status;
}

int64_t cld_bad_images_kept(cld_bad_images *b) {
    pthread_mutex_lock(&b->lock);
    int64_t count = b->kept;
    pthread_mutex_unlock(&b->lock);
    return count;
}

const char *cld_bad_images_reason(cld_bad_images *b, int64_t i, int64_t *row) {
    bad_image image = {0};
    pthread_mutex_lock(&b->lock);
    if (i >= 0 && i < b->kept) image = b->found[i];
    pthread_mutex_unlock(&b->lock);
    *row = image.row;
    return image.reason;
}
