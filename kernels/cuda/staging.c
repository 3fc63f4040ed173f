/* A ring buffer of page-locked memory, allocated by the first copy and never again. Copies take slices of it one after
 * another, each with an event that marks when it was sent; if the next one does not fit, the oldest is waited for. A
 * copy larger than a part of the ring goes in pieces, so that the first is on its way while the next is staged. */
#include "kernels/cuda/staging.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RING     ((size_t)256 << 20) /* bytes: a few batches of images, */
#define SMALLEST ((size_t)1 << 20)   /* or less, down to this, if the system cannot give so much */
#define PARTS    4                   /* a piece is at most one such part */
#define UNIT     ((size_t)256)

enum { SLICES = 64 };

typedef struct slice {
    size_t start;
    cudaEvent_t sent;
} slice;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char *host;
    size_t bytes, head; /* head: the next slice begins here, if it fits */
    slice slices[SLICES];
    int first, count; /* in flight, the oldest first */
} ring;

static cudaError_t make_events(void) {
    for (int i = 0; i < SLICES; i++) {
        if (ring.slices[i].sent) continue; /* made by an earlier attempt that failed later on */
        cudaError_t error = cudaEventCreateWithFlags(&ring.slices[i].sent, cudaEventDisableTiming);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

static cudaError_t open_ring(void) {
    void *host = NULL;
    if (ring.host) return cudaSuccess;
    cudaError_t error = make_events();
    if (error != cudaSuccess) return error;
    for (size_t bytes = RING; bytes >= SMALLEST; bytes /= 2) {
        error = cudaHostAlloc(&host, bytes, cudaHostAllocDefault);
        cld__ignore(error);
        ring.bytes = bytes;
        if (error != cudaErrorMemoryAllocation) break;
    }
    if (error == cudaSuccess) ring.host = host;
    return error;
}

/* Finds room for `bytes` bytes between the newest slice and the oldest one. */
static bool find_room(size_t *start, size_t bytes) {
    if (ring.count == SLICES) return false;
    size_t oldest = ring.slices[ring.first].start;
    if (ring.count == 0)
        *start = 0;
    else if (ring.head <= oldest && oldest - ring.head < bytes)
        return false;
    else if (ring.head <= oldest || ring.bytes - ring.head >= bytes)
        *start = ring.head;
    else if (oldest >= bytes)
        *start = 0;
    else
        return false;
    return true;
}

static cudaError_t wait_for_oldest(void) {
    cudaError_t error = cudaEventSynchronize(ring.slices[ring.first].sent);
    ring.first = (ring.first + 1) % SLICES;
    ring.count--;
    return error;
}

static cudaError_t send(char *device, const char *host, size_t bytes, cudaStream_t stream) {
    size_t size = (bytes + UNIT - 1) / UNIT * UNIT, start;
    while (!find_room(&start, size)) {
        cudaError_t error = wait_for_oldest();
        if (error != cudaSuccess) return error;
    }
    slice *s = &ring.slices[(ring.first + ring.count) % SLICES];
    memcpy(ring.host + start, host, bytes);
    cudaError_t error = cudaMemcpyAsync(device, ring.host + start, bytes, cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return error;
    s->start = start;
    ring.head = start + size;
    ring.count++;
    return cudaEventRecord(s->sent, stream);
}

cudaError_t cld__staging_copy(void *device, const void *host, size_t bytes, cudaStream_t stream) {
    pthread_mutex_lock(&lock);
    cudaError_t error = open_ring();
    for (size_t at = 0, n; error == cudaSuccess && at < bytes; at += n) {
        n = bytes - at < ring.bytes / PARTS ? bytes - at : ring.bytes / PARTS;
        error = send((char *)device + at, (const char *)host + at, n, stream);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

/* ---- for graphs ------------------------------------------------------------------------------------------------ */

struct cld_staged {
    cld_staged *next;
    void *host;
};

static cld_staged *captured;

cudaError_t cld__staging_capture(void *device, const void *host, size_t bytes, cudaStream_t stream) {
    cld_staged *s = calloc(1, sizeof *s);
    if (!s) return cudaErrorMemoryAllocation;
    cudaError_t error = cudaHostAlloc(&s->host, bytes, cudaHostAllocDefault);
    if (error != cudaSuccess) {
        cld__ignore(error);
        free(s);
        return error;
    }
    memcpy(s->host, host, bytes);
    pthread_mutex_lock(&lock);
    s->next = captured;
    captured = s;
    pthread_mutex_unlock(&lock);
    return cudaMemcpyAsync(device, s->host, bytes, cudaMemcpyHostToDevice, stream);
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
        if (s->host) cld__ignore(cudaFreeHost(s->host));
        free(s);
    }
}
