/* libFuzzer's target for TensorBoard's event files: `make fuzz`. This build does not check checksums (event.c). It asks
 * for every value of every event, and reads each byte that a value points to. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/io/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned total; /* of all bytes read, so that reading them is not optimized away */

static void require(int holds) {
    if (!holds) abort();
}

static void read_bytes(const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) total += ((const unsigned char *)bytes)[i];
}

static void read_value(const cld_event_reader *r, size_t i) {
    cld_event_value v;
    cld_event_value_at(r, i, &v);
    total += (unsigned)(strlen(v.tag) + strlen(v.plugin));
    read_bytes(v.bytes, v.length);
    for (size_t j = 0; j < v.strings; j++) {
        size_t length;
        const void *string = cld_event_string(r, i, j, &length);
        read_bytes(string, length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1;
    static char path[64];
    if (file < 0) file = memfd_create("events", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    cld_event_reader *r = cld_event_reader_open(path);
    require(r != NULL);
    cld_event event;
    bool found = true;
    uint64_t torn = 0;
    while (cld_event_next(r, &event, &found, &torn) == CLD_OK && found) {
        total += (unsigned)strlen(event.text);
        for (size_t i = 0; i < event.values; i++) read_value(r, i);
    }
    require(torn <= size);
    cld_event_reader_close(r);
    return 0;
}
