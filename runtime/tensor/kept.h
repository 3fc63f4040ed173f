/* Copies of their own values that weights keep, in another dtype or layout: those that convolutions and products take. A
 * step writes all weights, and the next call of any finds its copy out of date: then it asks for all that have been used
 * since this was last asked, so that one launch renews them. */
#ifndef CLD_TENSOR_KEPT_H
#define CLD_TENSOR_KEPT_H

#include "runtime/tensor/tensor.h"

/* The weight's copy (retained), if that is rounded to, of that dtype and layout, and nobody has written to the weight
 * since. Else NULL. */
cld_tensor *cld_kept_take(cld_tensor *weight, cld_dtype rounded, cld_dtype dtype, cld_layout layout);
/* Keep that copy, made of the weight when its storage's version was `version`, or none. Takes over the reference. */
void cld_kept_set(cld_tensor *weight, cld_tensor *copy, cld_dtype rounded, unsigned version);
void cld_kept_drop(cld_tensor *weight);

/* ---- a step that writes the copy with the weight ---- */

/* The copy (retained) that is to be written with the weight's next values, or NULL: one that is good now, so that a step
 * that is not made may leave it as it is, of 16 bits, and in use since it was last written so. */
cld_tensor *cld_kept_writable(cld_tensor *weight);
/* That copy has been written with the weight, whose storage's version says so already. */
void cld_kept_written(cld_tensor *weight, cld_tensor *copy);

/* ---- captured graphs ---- */

/* A copy that recorded work takes from before the capture, and so at each replay. */
typedef struct cld_kept_used {
    cld_tensor *weight, *copy; /* retained */
    cld_dtype rounded;
    bool renewed; /* the recorded work leaves it good */
} cld_kept_used;
typedef struct cld_kept_uses {
    cld_kept_used *of;
    int count, room;
} cld_kept_uses;

/* The beginning of a capture on that device, which is a turn already (cld_capture_begin): from now on `uses` grows, until
 * the end, which is one too. */
void cld_kept_begin_capture(const cld_backend *device, cld_kept_uses *uses);
void cld_kept_end_capture(void);
/* Before a replay: those that are out of date are renewed, at their place, in few launches. */
cld_status cld_kept_before_replay(const cld_backend *device, cld_kept_uses *uses);
/* After it, and its turn. */
void cld_kept_after_replay(cld_kept_uses *uses);
void cld_kept_drop_uses(cld_kept_uses *uses);

/* ---- renewal ---- */

/* A weight whose copy is out of date, and how it lay. */
typedef struct cld_kept_stale {
    cld_tensor *weight; /* retained */
    cld_dtype rounded, dtype;
    cld_layout layout;
} cld_kept_stale;
/* Takes away the copies of those weights of the device that are out of date and have been used since the last call.
 * Returns how many, at most `room`. */
int cld_kept_take_stale(const cld_backend *device, cld_kept_stale *out, int room);

#endif
