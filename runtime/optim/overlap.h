/* The sum of the ranks' gradients (runtime/dist), before an optimizer's step: in buckets, a few large messages instead
 * of many small ones, and if possible during backward. With one rank nothing here does anything. */
#ifndef CLD_OPTIM_OVERLAP_H
#define CLD_OPTIM_OVERLAP_H

#include "runtime/dist/dist.h"

/* ---- reduce_gradients.c ---- */

/* Each parameter's .grad becomes the sum over the ranks, unless it already is (summed). If it has no gradient on some
 * ranks, these count as zeros; if it has none anywhere, it stays without one. */
cld_status cld_reduce_gradients(cld_tensor *const *params, int count);

/* ---- alike.c ---- */

/* An error if a parameter is not the same on all ranks. Waits for the device. */
cld_status cld_check_params_alike(const char *name, cld_tensor *const *params, int count);

/* ---- overlap.c ---- */

/* The same during backward, for one list of parameters, which is borrowed. In a step with several ranks: begin, a
 * backward with this follower (runtime/autograd/tape.h), end. After an error: reset. */
typedef struct cld_overlap cld_overlap;
struct cld_follower;
cld_overlap *cld_overlap_new(cld_tensor *const *params, int count);
void cld_overlap_free(cld_overlap *o); /* NULL is fine */
const struct cld_follower *cld_overlap_begin(cld_overlap *o);
cld_status cld_overlap_end(cld_overlap *o);
void cld_overlap_reset(cld_overlap *o);
/* The parameter's bucket, and its place there; -1: none yet. o may be NULL. */
int cld_overlap_bucket(const cld_overlap *o, int param, int *place);

/* ---- buckets.c ---- */

/* The size of a full bucket. The same on all ranks, set before the first step. */
void cld_set_bucket_bytes(int64_t bytes);
/* Buckets begun so far; how many of them began before their backward had ended; bytes of all. */
typedef struct cld_bucket_figures {
    int64_t begun, early, bytes;
} cld_bucket_figures;
cld_bucket_figures cld_dist_buckets(void);

#endif
