/* The loader: an epoch of batches, made by worker threads ahead of the consumer.
 *
 * A batch has a slot in a ring of `prefetch`. Workers take images one after the other, those of the earliest step first,
 * so that all of them work on the batch that is wanted next and a slow file holds up its own step alone. An image is opened
 * and decoded once, whatever the number of its views. The consumer takes the slots in order: batches are the same for any
 * number of workers. Tensors are allocated by the consumer's thread alone: where memory is short that may run the collector
 * of the Lua state, which only its own thread may touch. So are the images of a set that is written in Lua opened; workers
 * make their views meanwhile, and about 128 MB of such images wait for them at most.
 *
 * On the CPU workers make the views whole. For a device that follows views itself (cld_image_ops.views) they draw them,
 * cut and resize in 8 bits, and the device does the rest when the batch is asked for; that work is queued, and nobody
 * waits for it. Of images that lie on the device they only draw. The views are the same, and lie as the device's
 * convolutions want them; rounded to 16 bits these take them without a copy.
 *
 * An image that cannot be read is named once (bad_images.h) and another of the epoch takes its place, with its own index and
 * label: which, depends on the seed, the epoch and the place alone.
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
    cld_tensor *resident;      /* the set's tensor on `device`; NULL: the host reads the images */
    const cld_backend *device; /* of the batches */
    int views;
    const cld_program *program[CLD_MAX_VIEWS]; /* (views) copied by cld_epoch_new */
    cld_dtype dtype;                           /* of the views: f32, bf16 or f16 */
    int64_t batch_size;                        /* over all ranks */
    int workers, prefetch;                     /* no workers: the consumer's thread does the work */
    uint64_t seed;
    bool shuffle;
    bool fast;                   /* decode at a smaller scale where every view shrinks the image by more */
    bool drop_last, drop_single; /* no batch smaller than batch_size; none of one image that is smaller */
    cld_bad_images *bad;
    /* This rank takes the rank-th of `world` parts of each batch (cld_split_batch): whole blocks of at most `block` images, if
     * there are enough of them (0: no matter). Of a batch with fewer images than ranks each has all. */
    int64_t block;
    int rank, world;
} cld_loader;

typedef struct cld_epoch_rest {
    int64_t steps, images; /* and the images in these steps */
} cld_epoch_rest;
/* What an epoch has from the image at place first_image of its order on (0: the whole of it). Checks every setting: the
 * error is the first that makes no sense, with what would. */
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
 * size, so an epoch may go on with another. Keeps its own references. */
cld_epoch *cld_epoch_new(const cld_loader *l, int64_t epoch, int64_t first_image);
int cld_epoch_views(const cld_epoch *e); /* per batch */
/* The next batch, or *done. An error in a worker is returned here, and by every call after it: no batch is left out. After
 * one in this thread (memory for tensors, a function in Lua) the next call tries again. CLD_INTERRUPTED: a signal came while it waited; the
 * batch is not lost, and the next call goes on waiting. */
cld_status cld_epoch_next(cld_epoch *e, cld_batch *out, bool *done);
/* Seconds that the consumer has waited for batches so far. */
double cld_epoch_waited(const cld_epoch *e);
/* Stops the workers, at any time. One that hangs in a read of a stalled disk is left to itself; the epoch and what it refers
 * to stay until it has gone. */
void cld_epoch_free(cld_epoch *e);

#endif
