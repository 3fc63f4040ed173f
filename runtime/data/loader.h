/* The loader: an epoch of batches, made by worker threads ahead of the consumer.
 *
 * A batch has a slot in a ring buffer of `prefetch` slots. Workers take images one after the other, those of the
 * earliest step first, so that all of them work on the batch that is needed next, and a slow file delays only its own
 * step. An image is opened and decoded once, whatever the number of its views. The consumer takes the slots in order,
 * so batches are the same for any number of workers. Only the consumer's thread allocates tensors: if memory is short,
 * allocation may run the garbage collector of the Lua state, which only its own thread may touch. For the same reason
 * the consumer's thread opens the images of a set written in Lua. Workers make their views meanwhile; at most about 128
 * MB of such images wait for them.
 *
 * On the CPU, workers make complete views. For a device that makes views itself (cld_image_ops.views), workers draw,
 * cut and resize in 8 bits, and the device does the rest when the batch is asked for; that work is queued, and nobody
 * waits for it. For images on the device, workers only draw. The views are the same, in the layout of the device's
 * convolutions; if they are rounded to 16 bits, convolutions use them without a copy.
 *
 * An image that cannot be read is reported once (bad_images.h), and another one of the epoch takes its place, with its
 * own index and label. Which one depends only on the seed, the epoch and the place.
 */
#ifndef CLD_DATA_LOADER_H
#define CLD_DATA_LOADER_H

#include "runtime/data/bad_images.h"
#include "runtime/data/dataset.h"
#include "runtime/dist/dist.h"
#include "runtime/views/program.h"

#define CLD_MAX_VIEWS 16

typedef struct cld_loader {
    cld_dataset *set;
    cld_tensor *labels;        /* i64 (N), contiguous, on the cpu */
    cld_tensor *resident;      /* the set's images on `device`; NULL: the host reads the images */
    const cld_backend *device; /* of the batches */
    int views;
    const cld_program *program[CLD_MAX_VIEWS]; /* (views) copied by cld_epoch_new */
    cld_dtype dtype;                           /* of the views: f32, bf16 or f16 */
    int64_t batch_size;                        /* of all ranks together */
    int workers, prefetch;                     /* no workers: the consumer's thread does the work */
    uint64_t seed;
    bool shuffle;
    bool fast;                   /* decode at a smaller scale if every view shrinks the image by more */
    bool drop_last, drop_single; /* no batch smaller than batch_size; no smaller batch of a single image */
    cld_bad_images *bad;
    /* This rank takes the rank-th of `world` parts of each batch (cld_split_batch): whole blocks of at most `block`
     * images, if there are enough of them (0: ignore blocks). If a batch has fewer images than ranks, each rank has all
     * of it. */
    int64_t block;
    int rank, world;
} cld_loader;

typedef struct cld_epoch_rest {
    int64_t steps, images; /* and the number of images in these steps */
} cld_epoch_rest;
/* What is left of an epoch from the image at place first_image of its order on (0: all of it). Checks every setting;
 * the error names the first bad one and what would be right. */
cld_status cld_loader_rest(cld_epoch_rest *out, const cld_loader *l, int64_t first_image);
/* *out: the images on that device, if it makes views itself and they take no more than half of its free memory; else
 * NULL, and the host reads them. */
cld_status cld_loader_resident(cld_tensor **out, const cld_dataset *set, const cld_backend *device);

typedef struct cld_batch { /* all owned by the caller, on the loader's device */
    int views;
    cld_tensor *view[CLD_MAX_VIEWS]; /* (n * images of the program, 3, height, width) */
    cld_tensor *index, *labels;      /* i64 (n): rows of the data set; their labels */
    cld_batch_share share;           /* which rows of the job's batch these are */
} cld_batch;
void cld_batch_free(cld_batch *b);

typedef struct cld_epoch cld_epoch;
/* The batches of one epoch from the image at place first_image of its order on. The order does not depend on the batch
 * size, so an epoch may continue with another one. Keeps its own references. */
cld_epoch *cld_epoch_new(const cld_loader *l, int64_t epoch, int64_t first_image);
int cld_epoch_views(const cld_epoch *e); /* per batch */
/* The next batch, or *done. An error in a worker is returned here and by every later call, so no batch is skipped.
 * After an error in this thread (memory for tensors, a function in Lua) the next call tries again. CLD_INTERRUPTED: a
 * signal came while it waited; the batch is not lost, and the next call continues to wait. */
cld_status cld_epoch_next(cld_epoch *e, cld_batch *out, bool *done);
/* Seconds that the consumer has waited for batches so far. */
double cld_epoch_waited(const cld_epoch *e);
/* Stops the workers, at any time. A worker that hangs in a read from a stalled disk is left alone; the epoch and what
 * it refers to stay until the worker has ended. */
void cld_epoch_free(cld_epoch *e);

#endif
