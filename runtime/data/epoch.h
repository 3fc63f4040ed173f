/* An epoch's internals: for loader.c, which hands out batches, slot.c, which stores them, and make_image.c, which makes
 * their images. */
#ifndef CLD_DATA_EPOCH_H
#define CLD_DATA_EPOCH_H

#include <pthread.h>

#include "runtime/data/loader.h"

/* Where a batch's views are made. */
typedef enum cld_making {
    CLD_MADE_ON_HOST,  /* by the workers, whole: f32 */
    CLD_MADE_FROM_CUT, /* cut and resized to 8 bits by the workers, finished by the device */
    CLD_MADE_ON_DEVICE /* from images on the device; the workers only draw */
} cld_making;

/* An image that was read on the consumer's thread. */
typedef struct cld_held_image {
    uint8_t *data; /* malloc's: interleaved, dense */
    int height, width;
    int64_t row, label;
} cld_held_image;

typedef struct cld_slot {
    cld_batch batch;                  /* view[v]: f32 on the cpu; for a device, NULL until it is made */
    cld_tensor *cut[CLD_MAX_VIEWS];   /* u8 (n, height, width, 3) on the cpu: for CLD_MADE_FROM_CUT */
    cld_tensor *drawn[CLD_MAX_VIEWS]; /* u8 (n, stride) on the cpu: for a device */
    cld_tensor *together; /* memory of consecutive views of one size; the batch's views are parts of it */
    cld_view_batch bounds[CLD_MAX_VIEWS];
    cld_held_image *held;            /* (n) for a set with one_thread */
    int64_t count, held_count, done; /* images of the batch; how many are held, and made: under the lock */
} cld_slot;

/* The state of a worker thread. */
typedef struct cld_image_worker {
    cld_source source;
    cld_scratch drawn, work;
    cld_view_batch bounds[CLD_MAX_VIEWS]; /* over the images since they were last merged into a slot */
} cld_image_worker;

struct cld_epoch {
    cld_loader loader;    /* set, labels, resident images and bad images retained */
    cld_program *program; /* (views) */
    int height[CLD_MAX_VIEWS], width[CLD_MAX_VIEWS]; /* of the views */
    cld_making making;
    int64_t epoch, first_image; /* place in the order where it starts; steps count from there */
    cld_epoch_rest rest;
    uint32_t *order; /* (N) the permutation; NULL if not shuffled */
    cld_slot *slots; /* (depth) step s lives in slot s % depth */
    int depth;
    int64_t next_out;              /* the consumer's next step */
    int64_t prepared;              /* steps below this have their tensors */
    int64_t task_step, task_image; /* the first image that no worker has taken */
    size_t held_bytes;             /* of images that are held and not yet made */
    double waited;
    cld_error_record error;
    bool failed, stop;
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* something to take; a batch is made, or a worker has failed or ended */
    pthread_t *threads;
    int threads_started, threads_running;
    cld_image_worker worker; /* the consumer's */
    struct cld_epoch *next_abandoned;
};

/* Bytes between drawn views. */
size_t cld__view_stride(const cld_program *p);
/* Makes image i of the step's batch in its slot, or another image if it cannot be read. */
cld_status cld__make_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i, cld_image_worker *w);
/* Reads image i of the step's batch into slot->held, with its size. On the consumer's thread. */
cld_status cld__hold_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i);
static inline size_t cld__held_bytes(const cld_held_image *h) {
    return 3 * (size_t)h->height * (size_t)h->width;
}
void cld__image_worker_free(cld_image_worker *w);

/* ---- slot.c -------------------------------------------------------------------------------------------- */

/* This rank's part of the step's batch: places [*begin, *begin + rows) of the order. */
cld_batch_share cld__part_of_step(const cld_epoch *e, int64_t step, int64_t *begin);
/* Allocates its tensors. On the consumer's thread, as all functions here except merge_bounds. */
cld_status cld__slot_allocate(cld_slot *s, const cld_epoch *e, int64_t step);
/* Turns the slot's content into the batch on its device. A second call, after one that ran out of memory, continues
 * where the first stopped. */
cld_status cld__slot_to_device(cld_slot *s, const cld_epoch *e);
void cld__slot_free(cld_slot *s);
/* Merges the bounds that the worker has seen. With the lock held. */
void cld__slot_merge_bounds(cld_slot *s, cld_image_worker *w);

#endif
