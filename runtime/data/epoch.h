/* An epoch's insides: for loader.c, which hands batches out, slot.c, which keeps them, and make_image.c, which makes them. */
#ifndef CLD_DATA_EPOCH_H
#define CLD_DATA_EPOCH_H

#include <pthread.h>

#include "runtime/data/loader.h"

/* Where the views of a batch are made. */
typedef enum cld_making {
    CLD_MADE_ON_HOST,  /* by the workers, whole: f32 */
    CLD_MADE_FROM_CUT, /* cut and resized by the workers to 8 bits, finished by the device */
    CLD_MADE_ON_DEVICE /* of images that lie there; the workers only draw */
} cld_making;

/* An image that was read on the consumer's thread. */
typedef struct cld_held_image {
    uint8_t *data; /* malloc's: interleaved, dense */
    int height, width;
    int64_t row, label;
} cld_held_image;

typedef struct cld_slot {
    cld_batch batch;                /* view[v]: f32 on the cpu, or, for a device, NULL until it has made it */
    cld_tensor *cut[CLD_MAX_VIEWS]; /* u8 (n, height, width, 3) on the cpu: for CLD_MADE_FROM_CUT */
    cld_tensor *drawn[CLD_MAX_VIEWS]; /* u8 (n, stride) on the cpu: for a device */
    cld_tensor *together; /* views of one size that follow one another, and those of the batch are parts of */
    cld_view_batch bounds[CLD_MAX_VIEWS];
    cld_held_image *held;            /* (n) of a set with one_thread */
    int64_t count, held_count, done; /* images of the batch; of these held, and made: with the lock */
} cld_slot;

/* What a thread works with. */
typedef struct cld_image_worker {
    cld_source source;
    cld_scratch drawn, work;
    cld_view_batch bounds[CLD_MAX_VIEWS]; /* of the images since they were last taken over into a slot */
} cld_image_worker;

struct cld_epoch {
    cld_loader loader;    /* set, labels, resident images and bad images retained */
    cld_program *program; /* (views) */
    int height[CLD_MAX_VIEWS], width[CLD_MAX_VIEWS]; /* of the views */
    cld_making making;
    int64_t epoch, first_image; /* where it starts in the order; steps count from there */
    cld_epoch_rest rest;
    uint32_t *order; /* (N) the permutation; NULL if it is not shuffled */
    cld_slot *slots; /* (depth) step s lives in slot s % depth */
    int depth;
    int64_t next_out;              /* the consumer's next step */
    int64_t prepared;              /* steps below this have their tensors */
    int64_t task_step, task_image; /* the first image that nobody has taken */
    size_t held_bytes;             /* of images that are held, and not made yet */
    double waited;
    cld_error_record error;
    bool failed, stop;
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* something to take; a batch is made, a worker has failed or ended */
    pthread_t *threads;
    int threads_started, threads_running;
    cld_image_worker worker; /* the consumer's */
    struct cld_epoch *next_abandoned;
};

/* Bytes from a drawn view to the next. */
size_t cld__view_stride(const cld_program *p);
/* Image i of the step's batch into its slot, or another if it cannot be read. */
cld_status cld__make_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i, cld_image_worker *w);
/* Image i of the step's batch into slot->held, and its size. On the consumer's thread. */
cld_status cld__hold_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i);
static inline size_t cld__held_bytes(const cld_held_image *h) {
    return 3 * (size_t)h->height * (size_t)h->width;
}
void cld__image_worker_free(cld_image_worker *w);

/* ---- slot.c -------------------------------------------------------------------------------------------- */

/* This rank's part of the step's batch: places [*begin, *begin + rows) of the order. */
cld_batch_share cld__part_of_step(const cld_epoch *e, int64_t step, int64_t *begin);
/* Its tensors. On the consumer's thread, as all here but merge_bounds. */
cld_status cld__slot_allocate(cld_slot *s, const cld_epoch *e, int64_t step);
/* What is made becomes the batch on its device. A second try, after one that ran out of memory, goes on where that
 * stopped. */
cld_status cld__slot_to_device(cld_slot *s, const cld_epoch *e);
void cld__slot_free(cld_slot *s);
/* Takes over what the worker has seen of the views. With the lock held. */
void cld__slot_merge_bounds(cld_slot *s, cld_image_worker *w);

#endif
