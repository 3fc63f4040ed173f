/* What tensors know about captured graphs (runtime/graph): when values may have changed without a new storage version,
 * and which capture's work may write to them. */
#ifndef CLD_TENSOR_CAPTURE_H
#define CLD_TENSOR_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

/* A capture. Its graph holds it, and so does each storage that was allocated in it. */
typedef struct cld_recording cld_recording;

cld_recording *cld_recording_new(void);
void cld_recording_free(cld_recording *r); /* lets go of one reference */
/* How often its graph has been replayed. */
uint64_t cld_recording_replays(const cld_recording *r);
/* Counts one more replay, and advances the epoch. */
void cld_recording_replayed(cld_recording *r);

/* Counts the beginnings, ends and replays of captures. If it has advanced, values may have changed without a new
 * storage version, and work since then may have been recorded instead of computed. */
uint64_t cld_capture_epoch(void);

/* Whether a capture is running; begin and end both advance the epoch. */
bool cld_capturing(void);
void cld_capture_begin(cld_recording *r); /* r must live until the end */
void cld_capture_end(void);
/* The running capture, with a reference for the caller; NULL if there is none. */
cld_recording *cld_capture_current(void);

#endif
