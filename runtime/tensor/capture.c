#include "runtime/tensor/capture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/core/error.h"

struct cld_recording {
    atomic_int refs;
    atomic_ullong replays;
};

static atomic_ullong epoch;

/* Other threads may allocate during a capture: none of them may take a capture that is ending. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cld_recording *current;
static atomic_bool capturing; /* is a capture running? */

cld_recording *cld_recording_new(void) {
    cld_recording *r = calloc(1, sizeof *r);
    if (!r) return cld_fail_null(CLD_NOMEM, "graph: out of memory");
    r->refs = 1;
    return r;
}

void cld_recording_free(cld_recording *r) {
    if (r && atomic_fetch_sub(&r->refs, 1) == 1) free(r);
}

uint64_t cld_recording_replays(const cld_recording *r) { return atomic_load(&r->replays); }

void cld_recording_replayed(cld_recording *r) {
    atomic_fetch_add(&r->replays, 1);
    atomic_fetch_add(&epoch, 1);
}

uint64_t cld_capture_epoch(void) { return atomic_load(&epoch); }
bool cld_capturing(void) { return atomic_load(&capturing); }

static void turn(cld_recording *r) {
    pthread_mutex_lock(&lock);
    current = r;
    atomic_store(&capturing, r != NULL);
    atomic_fetch_add(&epoch, 1);
    pthread_mutex_unlock(&lock);
}

void cld_capture_begin(cld_recording *r) { turn(r); }
void cld_capture_end(void) { turn(NULL); }

cld_recording *cld_capture_current(void) {
    if (!cld_capturing()) return NULL;
    pthread_mutex_lock(&lock);
    cld_recording *r = current;
    if (r) atomic_fetch_add(&r->refs, 1);
    pthread_mutex_unlock(&lock);
    return r;
}
