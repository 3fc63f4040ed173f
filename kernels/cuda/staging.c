/* Blocks of page-locked memory, each with an event that says when the copy from it is done. A block is used again once it
 * is; while none is done new ones are made, up to MOST bytes, and then the oldest is waited for. */
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
    if (s->host) cudaFreeHost(s->host);
    if (s->sent) cudaEventDestroy(s->sent);
    free(s);
}

static cld_staged *make(size_t bytes, bool with_event) {
    cld_staged *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->bytes = bytes;
    if (cudaHostAlloc(&s->host, bytes, cudaHostAllocDefault) == cudaSuccess &&
        (!with_event || cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming) == cudaSuccess))
        return s;
    cudaGetLastError();
    free_one(s);
    return NULL;
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

/* Wait for the oldest blocks, and give them back, until so many bytes more are within the limit. */
static void shrink(size_t bytes) {
    while (queued && total + bytes > MOST) {
        cld_staged *s = unlink_at(&queued);
        cudaEventSynchronize(s->sent);
        total -= s->bytes;
        free_one(s);
    }
}

cld_status cld__staging_take(void **out, size_t bytes, bool for_graph) {
    size_t size = SMALLEST;
    while (size < bytes) size *= 2;
    *out = NULL;
    pthread_mutex_lock(&lock);
    cld_staged *s = for_graph ? NULL : find_sent(size);
    if (!s && !for_graph) shrink(size);
    if (!s) {
        s = make(for_graph ? bytes : size, !for_graph);
        if (s && !for_graph) total += size;
    }
    if (s) {
        cld_staged **list = for_graph ? &captured : &taken;
        s->next = *list;
        *list = s;
        *out = s->host;
    }
    pthread_mutex_unlock(&lock);
    if (s) return CLD_OK;
    return cld_fail(CLD_NOMEM, "out of page-locked host memory: wanted %.1f MiB", (double)bytes / 0x1p20);
}

void cld__staging_sent(void *host, cudaStream_t stream) {
    pthread_mutex_lock(&lock);
    cld_staged **at = &taken;
    while (*at && (*at)->host != host) at = &(*at)->next;
    cld_staged *s = *at;
    if (s) { /* a graph's is not among these */
        *at = s->next;
        s->next = NULL;
        cudaEventRecord(s->sent, stream);
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
