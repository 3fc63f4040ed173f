/* Gradients that travel together: some large messages instead of many small ones. What is packed is one array, which is
 * summed up over the ranks; then each leaf's .grad is its part of that.
 */
#ifndef CLD_OPTIM_BUCKETS_H
#define CLD_OPTIM_BUCKETS_H

#include "runtime/tensor/tensor.h"

typedef struct cld_bucket {
    int first, count; /* of the leaves */
    int64_t elements;
    bool gaps; /* between parts, which all begin at a multiple of some bytes */
} cld_bucket;

typedef struct cld_buckets {
    cld_tensor **leaves; /* borrowed, in the order in which their gradients travel; (count), as all here */
    int64_t *at;         /* where a leaf's part begins in its bucket, in elements */
    cld_tensor **came;   /* owned: its gradient in any dtype and layout. NULL: it is .grad, if there is one */
    uint8_t *had;        /* of what was begun: was there a gradient? */
    int count;
    cld_bucket *buckets;
    int bucket_count;
    int begun; /* so many of them */
} cld_buckets;

/* *b is {0}. Neighbours of one dtype and device, up to the size of a bucket; the last one is small, since nothing hides it. */
cld_status cld__cut_buckets(cld_buckets *b, cld_tensor *const *leaves, int count);
/* The next one is on its way. The gradients in it are complete; a leaf that has none counts as zeros. */
cld_status cld__begin_bucket(cld_buckets *b);
/* All are on their way, */
cld_status cld__begin_buckets(cld_buckets *b);
/* and have arrived: .grad of all leaves is the sum over the ranks. */
cld_status cld__join_buckets(const cld_buckets *b);
/* The one that was begun last was begun while backward goes on: for cld_dist_buckets. */
void cld__count_early(void);
/* None is begun: for the next step. */
void cld__reset_buckets(cld_buckets *b);
void cld__free_buckets(cld_buckets *b);

/* reduce_gradients.c. has[i]: has parameter i a gradient, on some rank when these have arrived. */
cld_tensor *cld__begin_presence(const uint8_t *has, int count);
const uint8_t *cld__presence(const cld_tensor *begun);
/* The sum of those that has names and that are no sum yet, the last first: the last layers' gradients come first. */
cld_status cld__reduce_present(cld_tensor *const *params, const uint8_t *has, int count);

#endif
