/* TensorBoard's event files: TFRecord frames around protobuf messages (event.proto).
 *
 *     8 bytes   n, little-endian
 *     4 bytes   masked CRC-32C of these 8 bytes
 *     n bytes   an Event
 *     4 bytes   masked CRC-32C of the n bytes
 *
 * The first event of a file is its version, "brain.Event:2". Every event goes to the file at once and as a whole, in one
 * write, so that a process that is killed leaves a file that ends with a whole event; where a write fails (a full disk),
 * what it has written of one is taken back.
 *
 * TensorBoard reads the files of a folder in the order of their names and goes on to the next when one has no more. A
 * writer makes a new file, whose name comes after those that are there.
 *
 * A build without protobuf-c has none of this: every call fails with CLD_UNSUPPORTED and says so.
 */
#ifndef CLD_IO_EVENT_H
#define CLD_IO_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

/* Whether this build has it; if not, the thread's error record says so. */
bool cld_event_is_supported(void);

/* ---- writing ------------------------------------------------------------------------------------------- */

typedef struct cld_event_writer {
    char *path;
    int fd;
    uint64_t bytes; /* of whole events */
} cld_event_writer;

/* A new file in the folder, which is made if there is none. On failure nothing is left to clean up. */
cld_status cld_event_writer_open(cld_event_writer *w, const char *folder);
void cld_event_writer_close(cld_event_writer *w); /* twice is fine */

/* The events, at a time in seconds since 1970. A session that starts has a reader forget what it has read of this step
 * and later ones, unless it is the first of the folder. */
cld_status cld_event_session_start(cld_event_writer *w, double wall_time, int64_t step);
cld_status cld_event_scalar(cld_event_writer *w, double wall_time, int64_t step, const char *tag,
                            float value);
/* The bytes of a PNG or JPEG file. */
cld_status cld_event_image(cld_event_writer *w, double wall_time, int64_t step, const char *tag, int height,
                           int width, const void *encoded, size_t bytes);

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef enum cld_event_kind {
    CLD_EVENT_OTHER,   /* what is not read here */
    CLD_EVENT_VERSION, /* text */
    CLD_EVENT_SESSION, /* session */
    CLD_EVENT_SUMMARY  /* values */
} cld_event_kind;

typedef enum cld_event_value_kind {
    CLD_VALUE_OTHER,
    CLD_VALUE_SCALAR, /* scalar */
    CLD_VALUE_IMAGE,  /* height, width, channels, bytes */
    CLD_VALUE_STRINGS /* cld_event_string */
} cld_event_value_kind;

typedef struct cld_event_value {
    const char *tag, *plugin; /* "" if there is none; they lie in the reader, as bytes do */
    cld_event_value_kind kind;
    double scalar;
    int height, width, channels;
    const void *bytes;
    size_t length, strings; /* of bytes; how many strings */
} cld_event_value;

typedef struct cld_event {
    double wall_time;
    int64_t step;
    cld_event_kind kind;
    const char *text;
    int session; /* SessionLog's status: 1 START, 2 STOP, 3 CHECKPOINT */
    size_t values;
} cld_event;

typedef struct cld_event_reader cld_event_reader;

/* NULL on failure. */
cld_event_reader *cld_event_reader_open(const char *path);
/* The next event. *found: false at the end, and where the rest is no whole event, of a file that is being written or of
 * a torn one: *torn is how many bytes that are. A damaged one is an error that names the file and the place. */
cld_status cld_event_next(cld_event_reader *r, cld_event *event, bool *found, uint64_t *torn);
/* Value i, from 0, of the event that was read last; string j of such a value. */
void cld_event_value_at(const cld_event_reader *r, size_t i, cld_event_value *value);
const void *cld_event_string(const cld_event_reader *r, size_t i, size_t j, size_t *length);
void cld_event_reader_close(cld_event_reader *r); /* NULL is fine */

#endif
