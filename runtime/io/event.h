/* TensorBoard's event files: TFRecord frames around protobuf messages (event.proto).
 *
 *     8 bytes   n, little-endian
 *     4 bytes   masked CRC-32C of these 8 bytes
 *     n bytes   an Event
 *     4 bytes   masked CRC-32C of the n bytes
 *
 * The first event of a file is its version, "brain.Event:2". Every event is written at once, in a single write, so that
 * a killed process leaves a file that ends with a whole event. If a write fails (a full disk), a partly written event
 * is removed again.
 *
 * TensorBoard reads the files of a folder in the order of their names, and moves on to the next when one has no more
 * events. A writer therefore makes a new file whose name comes after the existing ones.
 *
 * In a build without protobuf-c every call fails with CLD_UNSUPPORTED and says so.
 */
#ifndef CLD_IO_EVENT_H
#define CLD_IO_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

/* Whether this build supports event files; if not, the thread's error record says so. */
bool cld_event_is_supported(void);

/* ---- writing ------------------------------------------------------------------------------------------- */

typedef struct cld_event_writer {
    char *path;
    int fd;
    uint64_t bytes; /* of whole events */
} cld_event_writer;

/* A new file in the folder, which is created if it does not exist. On failure nothing is left to clean up. */
cld_status cld_event_writer_open(cld_event_writer *w, const char *folder);
void cld_event_writer_close(cld_event_writer *w); /* twice is fine */

/* Each writes one event; the time is in seconds since 1970. A session start, unless it is the folder's first, makes a
 * reader discard what it has read of this step and later ones. */
cld_status cld_event_session_start(cld_event_writer *w, double wall_time, int64_t step);
cld_status cld_event_scalar(cld_event_writer *w, double wall_time, int64_t step, const char *tag,
                            float value);
/* The bytes of a PNG or JPEG file. */
cld_status cld_event_image(cld_event_writer *w, double wall_time, int64_t step, const char *tag, int height,
                           int width, const void *encoded, size_t bytes);

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef enum cld_event_kind {
    CLD_EVENT_OTHER,   /* an event that is not read here */
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
    const char *tag, *plugin; /* "" if there is none; owned by the reader, like bytes */
    cld_event_value_kind kind;
    double scalar;
    int height, width, channels;
    const void *bytes;
    size_t length, strings; /* length of bytes; number of strings */
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
/* The next event. *found is false at the end, and if the rest is not a whole event because the file is still being
 * written or was cut off: *torn is then how many bytes remain. A damaged event is an error that names the file and the
 * place. */
cld_status cld_event_next(cld_event_reader *r, cld_event *event, bool *found, uint64_t *torn);
/* Value i, from 0, of the event that was read last; string j of that value. */
void cld_event_value_at(const cld_event_reader *r, size_t i, cld_event_value *value);
const void *cld_event_string(const cld_event_reader *r, size_t i, size_t j, size_t *length);
void cld_event_reader_close(cld_event_reader *r); /* NULL is fine */

#endif
