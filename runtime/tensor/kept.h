/* Cast copies that weights keep of their own values, in the dtype or layout that convolutions and products need. A step
 * writes all weights, so the next use of any weight finds its copy stale. It then collects all weights that were used
 * since the last time, so that one launch renews them all. */
#ifndef CLD_TENSOR_KEPT_H
#define CLD_TENSOR_KEPT_H

#include "runtime/tensor/tensor.h"

/* The weight's copy (retained), if it was rounded to `rounded`, has that dtype and layout, and the weight has not been
 * written to since. Else NULL. */
cld_tensor *cld_kept_take(cld_tensor *weight, cld_dtype rounded, cld_dtype dtype, cld_layout layout);
/* Keeps that copy, made from the weight when its storage's version was `version`; NULL: none. Takes over the
 * reference. */
void cld_kept_set(cld_tensor *weight, cld_tensor *copy, cld_dtype rounded, unsigned version);
void cld_kept_drop(cld_tensor *weight);

/* ---- a step that writes the copy along with the weight ---- */

/* The copy (retained) to be written along with the weight's next values, or NULL. It must be valid now, so that a
 * skipped step may leave it as it is, have 16 bits, and have been used since it was last written this way. */
cld_tensor *cld_kept_writable(cld_tensor *weight);
/* The copy has been written along with the weight, whose storage's version already counts it. */
void cld_kept_written(cld_tensor *weight, cld_tensor *copy);

/* ---- captured graphs ---- */

/* A copy from before a capture that the recorded work uses, and so each replay does too. */
typedef struct cld_kept_used {
    cld_tensor *weight, *copy; /* retained */
    cld_dtype rounded;
    bool renewed; /* the recorded work leaves it valid */
} cld_kept_used;
typedef struct cld_kept_uses {
    cld_kept_used *of;
    int count, room;
} cld_kept_uses;

/* The beginning of a capture on that device, after cld_capture_begin: from now on copies that are used are added to
 * `uses`, until the end. */
void cld_kept_begin_capture(const cld_backend *device, cld_kept_uses *uses);
void cld_kept_end_capture(void);
/* Before a replay: renews stale copies in place, in few launches. */
cld_status cld_kept_before_replay(const cld_backend *device, cld_kept_uses *uses);
/* After the replay, and after it was counted. */
void cld_kept_after_replay(cld_kept_uses *uses);
void cld_kept_drop_uses(cld_kept_uses *uses);

/* ---- renewal ---- */

/* A weight whose copy is stale, and the copy's form. */
typedef struct cld_kept_stale {
    cld_tensor *weight; /* retained */
    cld_dtype rounded, dtype;
    cld_layout layout;
} cld_kept_stale;
/* Takes away the stale copies of those weights of the device that were used since the last call. Returns how many, at
 * most `room`. */
int cld_kept_take_stale(const cld_backend *device, cld_kept_stale *out, int room);

#endif
