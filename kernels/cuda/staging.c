/* Blocks of page-locked memory, each with an event that says when the copy from it is done. A block is used again once it
 * is; while none is done new ones are made, up to MOST bytes or what the system gives, and then the oldest is waited for. */
#include "kernels/cuda/staging.h"

#include <pthread.h>
#include <stdlib.h>

#define SMALLEST (64u << 10)
#define MOST     ((size_t)1 << 30)

struct cld_staged {
    struct cld_staged *next;
    void *host;
    size_t bytes;
    cudaEvent_t sent; /* NULL in a graph's */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cld_staged *queued, **queued_end = &queued; /* oldest first */
static cld_staged *taken;                          /* being filled */
static cld_staged *captured;
static size_t total;

static void free_one(cld_staged *s) {
    if (s->host) cld__ignore(cudaFreeHost(s->host));
    if (s->sent) cld__ignore(cudaEventDestroy(s->sent));
    free(s);
}

static cudaError_t make(cld_staged **out, size_t bytes, bool with_event) {
    cld_staged *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return cudaErrorMemoryAllocation;
    s->bytes = bytes;
    cudaError_t error = cudaHostAlloc(&s->host, bytes, cudaHostAllocDefault);
    if (error == cudaSuccess && with_event)
        error = cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming);
    if (error == cudaSuccess)
        *out = s;
    else
        free_one(s);
    cld__ignore(error);
    return error;
}

static cld_staged *unlink_at(cld_staged **at) {
    cld_staged *s = *at;
    *at = s->next;
    if (!*at) queued_end = at;
    s->next = NULL;
    return s;
}

/* The smallest block that is large enough, and sent. Copies are done in the order of the queue. */
static cld_staged *find_sent(size_t bytes) {
    cld_staged **best = NULL;
    for (cld_staged **at = &queued; *at; at = &(*at)->next) {
        if (cudaEventQuery((*at)->sent) != cudaSuccess) {
            cudaGetLastError();
            break;
        }
        if ((*at)->bytes >= bytes && (!best || (*at)->bytes < (*best)->bytes)) best = at;
    }
    return best ? unlink_at(best) : NULL;
}

/* Waits for it. */
static void give_back_oldest(void) {
    cld_staged *s = unlink_at(&queued);
    cld__ignore(cudaEventSynchronize(s->sent));
    total -= s->bytes;
    free_one(s);
}

static cudaError_t make_for_queue(cld_staged **out, size_t size) {
    while (queued && total + size > MOST) give_back_oldest();
    cudaError_t error = make(out, size, true);
    if (error == cudaSuccess) total += size;
    return error;
}

cudaError_t cld__staging_take(void **out, size_t bytes, bool for_graph) {
    size_t size = SMALLEST;
    cudaError_t error = cudaSuccess;
    while (size < bytes) size *= 2;
    *out = NULL;
    pthread_mutex_lock(&lock);
    cld_staged *s = for_graph ? NULL : find_sent(size);
    while (!s) {
        error = for_graph ? make(&s, bytes, false) : make_for_queue(&s, size);
        if (error != cudaErrorMemoryAllocation || !queued) break;
        give_back_oldest();
    }
    if (s) {
        cld_staged **list = for_graph ? &captured : &taken;
        s->next = *list;
        *list = s;
        *out = s->host;
    }
    pthread_mutex_unlock(&lock);
    return s ? cudaSuccess : error;
}

void cld__staging_sent(void *host, cudaStream_t stream) {
    pthread_mutex_lock(&lock);
    cld_staged **at = &taken;
    while (*at && (*at)->host != host) at = &(*at)->next;
    cld_staged *s = *at;
    if (s) { /* a graph's is not among these */
        *at = s->next;
        s->next = NULL;
        cld__ignore(cudaEventRecord(s->sent, stream));
        *queued_end = s;
        queued_end = &s->next;
    }
    pthread_mutex_unlock(&lock);
}

cld_staged *cld__staging_captured(void) {
    pthread_mutex_lock(&lock);
    cld_staged *list = captured;
    captured = NULL;
    pthread_mutex_unlock(&lock);
    return list;
}

void cld__staging_free(cld_staged *list) {
    while (list) {
        cld_staged *s = list;
        list = s->next;
        free_one(s);
    }
}
