/* The loader: an epoch of batches, augmented by worker threads ahead of the consumer, or by the device.
 *
 * Worker w takes the next step that nobody has taken and fills that step's slot, a place in a ring of
 * `prefetch` batches. The consumer takes the slots in order, so the batches are the same for any number of
 * workers. Tensors are allocated by the consumer's thread alone: where memory is short that may run the collector of the
 * Lua state, which only its own thread may touch.
 *
 * Images that lie on a device are augmented there, when the batch is asked for: such work is queued, and nobody waits for
 * it. The host then only chooses which images. The views are the same, and lie as the device's convolutions want them;
 * rounded to 16 bits these take them without a copy.
 */
#ifndef CLD_DATA_LOADER_H
#define CLD_DATA_LOADER_H

#include "runtime/data/augment.h"

#define CLD_MAX_VIEWS 16

typedef struct cld_loader {
    cld_tensor *images;        /* u8 (N, H, W, 3), contiguous, on the cpu or on `device` */
    cld_tensor *labels;        /* i64 (N), contiguous, on the cpu */
    const cld_backend *device; /* of the batches */
    cld_augment augment;
    cld_dtype dtype;              /* of the views: f32, bf16 or f16 */
    int64_t batch_size;           /* over all ranks */
    int views, workers, prefetch; /* no workers: the consumer's thread does the work */
    uint64_t seed;
    bool shuffle;
    bool drop_last, drop_single; /* no batch smaller than batch_size; none of one image that is smaller */
    /* This rank takes the rank-th of `world` parts of each batch. Their sizes differ by one at most: of a batch with
     * fewer images than ranks some get none. */
    int rank, world;
} cld_loader;

typedef struct cld_epoch_rest {
    int64_t steps, images; /* and the images in these steps */
} cld_epoch_rest;
/* What an epoch has from the image at place first_image of its order on (0: the whole of it). Checks every setting: the
 * error is the first that makes no sense, with what would. */
cld_status cld_loader_rest(cld_epoch_rest *out, const cld_loader *l, int64_t first_image);
/* *out: the images on that device, where it makes views itself and they take no more than half of its free memory; else
 * NULL, and the host makes them. */
cld_status cld_loader_resident(cld_tensor **out, const cld_tensor *images, const cld_backend *device);

typedef struct cld_batch { /* all owned by the caller, on the loader's device */
    int views;
    cld_tensor *view[CLD_MAX_VIEWS]; /* (n, 3, height, width) */
    cld_tensor *index, *labels;      /* i64 (n): rows of the data set; their labels */
} cld_batch;
void cld_batch_free(cld_batch *b);

typedef struct cld_epoch cld_epoch;
/* The batches of one epoch from the image at place first_image of its order on. The order does not depend on the batch
 * size, so an epoch may go on with another. Keeps its own references to images and labels. */
cld_epoch *cld_epoch_new(const cld_loader *l, int64_t epoch, int64_t first_image);
int cld_epoch_views(const cld_epoch *e); /* per batch */
/* The next batch, or *done. An error in a worker is returned here. */
cld_status cld_epoch_next(cld_epoch *e, cld_batch *out, bool *done);
void cld_epoch_free(cld_epoch *e); /* stops and joins the workers, at any time */

#endif
