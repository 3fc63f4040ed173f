/* What tensors know of captured graphs (runtime/graph): when values may have changed without their storage's version, and
 * which capture's work may write to them. */
#ifndef CLD_TENSOR_CAPTURE_H
#define CLD_TENSOR_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

/* A capture, from its beginning on. Its graph holds it, and each storage that was allocated in it. */
typedef struct cld_recording cld_recording;

cld_recording *cld_recording_new(void);
void cld_recording_free(cld_recording *r); /* lets go of one reference */
/* How often its graph has been replayed. */
uint64_t cld_recording_replays(const cld_recording *r);
/* One more; a turn. */
void cld_recording_replayed(cld_recording *r);

/* Counts the beginnings, ends and replays of captured graphs: where it has moved, values may have changed without their
 * storage's version, and what was computed then may have been recorded, and not computed. */
uint64_t cld_capture_epoch(void);

/* Between a beginning and its end; either is a turn, which moves the epoch. */
bool cld_capturing(void);
void cld_capture_begin(cld_recording *r); /* r lives until the end */
void cld_capture_end(void);
/* The capture under way, with a reference of the caller's; NULL: there is none. */
cld_recording *cld_capture_current(void);

#endif
