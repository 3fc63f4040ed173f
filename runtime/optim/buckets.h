/* Gradients that are summed together: a few large messages instead of many small ones. A bucket is one array, which is
 * summed over the ranks; afterwards each leaf's .grad is a part of it.
 */
#ifndef CLD_OPTIM_BUCKETS_H
#define CLD_OPTIM_BUCKETS_H

#include "runtime/tensor/tensor.h"

typedef struct cld_bucket {
    int first, count; /* of the leaves */
    int64_t elements;
    bool gaps; /* between parts, because each starts at an aligned address */
} cld_bucket;

typedef struct cld_buckets {
    cld_tensor **leaves; /* borrowed, in the order in which their gradients are sent; (count), as all here */
    int64_t *at;         /* the offset of a leaf's part in its bucket, in elements */
    cld_tensor **came;   /* owned: its gradient in any dtype and layout. NULL: it is .grad, if there is one */
    uint8_t *had;        /* in buckets already begun: was there a gradient? */
    int count;
    cld_bucket *buckets;
    int bucket_count;
    int begun; /* number of buckets begun */
} cld_buckets;

/* *b is {0}. A bucket holds consecutive leaves of one dtype and device, up to its size; the last bucket is small, since
 * no computation hides it. */
cld_status cld__cut_buckets(cld_buckets *b, cld_tensor *const *leaves, int count);
/* Starts the next bucket. The gradients in it are complete; a leaf without one counts as zeros. */
cld_status cld__begin_bucket(cld_buckets *b);
/* Starts all that are left. */
cld_status cld__begin_buckets(cld_buckets *b);
/* Waits for all buckets: .grad of all leaves is then the sum over the ranks. */
cld_status cld__join_buckets(const cld_buckets *b);
/* The last bucket was begun during backward: for cld_dist_buckets. */
void cld__count_early(void);
/* Resets for the next step: none is begun. */
void cld__reset_buckets(cld_buckets *b);
void cld__free_buckets(cld_buckets *b);

/* reduce_gradients.c. has[i]: whether parameter i has a gradient; after the join, whether it has one on some rank. */
cld_tensor *cld__begin_presence(const uint8_t *has, int count);
const uint8_t *cld__presence(const cld_tensor *begun);
/* Sums the gradients that `has` names and that are not yet sums, last first, because the last layers' gradients come
 * first. */
cld_status cld__reduce_present(cld_tensor *const *params, const uint8_t *has, int count);

#endif
