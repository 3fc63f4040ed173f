#include "runtime/io/json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

/* jansson 2.14 does not check whether the buffer of the token that it reads could grow, and an assertion ends the
 * process if a number did not fit. So if malloc fails, blocks whose size is a power of two, as such a buffer's is, come
 * from this reserve; the next block of any other size fails openly. The reserve is enough for numbers of 4095
 * digits. */
static _Thread_local char reserve[8192] __attribute__((aligned(16)));
static _Thread_local size_t reserved;
static _Thread_local bool starved;

static void *from_reserve(size_t bytes) {
    bool power_of_two = bytes >= 16 && (bytes & (bytes - 1)) == 0;
    if (!power_of_two || bytes > sizeof reserve - reserved) return NULL;
    reserved += bytes;
    return reserve + reserved - bytes;
}

static void *watched_malloc(size_t bytes) {
    void *data = malloc(bytes);
    if (data) return data;
    starved = true;
    return from_reserve(bytes);
}

void cld_json_free(void *block) {
    bool in_reserve = (char *)block >= reserve && (char *)block < reserve + sizeof reserve;
    if (!in_reserve) free(block);
}

/* Safe if the process has another user of jansson: either way the blocks are the C library's. */
static void install(void) { json_set_alloc_funcs(watched_malloc, cld_json_free); }

void cld_json_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    starved = false;
    reserved = 0;
}

bool cld_json_starved(void) { return starved; }
