#include "runtime/io/json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

static _Thread_local bool starved;

static void *watched_malloc(size_t bytes) {
    void *data = malloc(bytes);
    if (!data) starved = true;
    return data;
}

/* Beside another user of jansson in this process: the blocks are the C library's either way. */
static void install(void) { json_set_alloc_funcs(watched_malloc, free); }

void cld_json_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    starved = false;
}

bool cld_json_starved(void) { return starved; }
