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
