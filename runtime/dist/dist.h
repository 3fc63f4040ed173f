/* Many processes, one training: README.md says what they compute. With one rank all functions work, and do nothing.
 *
 * All ranks call a collective, in the same order, with tensors of the same dtypes and shapes. On a device that queues
 * its work it is queued too. An error of the job (a rank is gone, the network fails) ends the process, since the state
 * of the other ranks is then unknown.
 */
#ifndef CLD_DIST_DIST_H
#define CLD_DIST_DIST_H

#include "kernels/comm.h"
#include "runtime/tensor/tensor.h"

/* ---- ranks.c ---- */

/* Joins the job, if a launcher has started this program (mpirun, srun): call it before anything else. An error says
 * what is wrong with the launch. A program that such a process starts is not part of the job. */
cld_status cld_dist_start(void);
/* After an error of start: whether every rank of the machine has it, so that one rank can report it for all. */
bool cld_dist_fails_alike(void);
/* Leaves the job, together with the others. */
void cld_dist_end(void);

/* {0, 1, 0, 1, 1} if there is no job. */
cld_ranks cld_dist_ranks(void);
/* Whether there is no job, and so no collective. The only process of a launcher is alone too, unless CLD_JOB_OF_ONE=1
 * in the environment makes it a job of one rank, for checks: its batches are split, and it goes through every
 * collective. */
bool cld_dist_alone(void);
/* The library that moves the CPU's tensors: "Open MPI 4.1.4"; NULL: none. */
const char *cld_dist_library(void);

/* ---- batch.c: the current batch ---- */

typedef struct cld_batch_share {
    bool split;           /* each rank has its own rows; else all ranks have all rows */
    int64_t total, block; /* rows of the whole batch; the block size by which it was cut (0: none) */
    int64_t begin, rows;  /* this rank's: [begin, begin + rows) */
} cld_batch_share;

/* The first of rank r's rows of a batch; r = world: total. If there are at least as many blocks (cld_block_count) as
 * ranks, a rank has whole blocks. Sizes differ by at most one row, or one block. */
int64_t cld_batch_begin(int64_t total, int64_t block, int world, int rank);
/* A rank's share. Not split if there are fewer rows than ranks, or without a job. */
cld_batch_share cld_split_batch(int64_t total, int64_t block, int world, int rank);

/* From here on steps belong to this batch. NULL: to data that is the same on all ranks. Pending tensors are settled
 * first. */
cld_status cld_set_batch_at_hand(const cld_batch_share *share);
cld_batch_share cld_batch_at_hand(void);
/* The weight of this rank's loss in the job's: rows / total, or 1 / world. */
double cld_batch_weight(void);

/* Which of the batch's images an op's `images` images on this rank are: all that the rank has of the current batch, or
 * the same number on each rank, if the batch is split evenly. Any other number is an error. *out is split if the ranks
 * have different images. */
cld_status cld_images_of_batch(cld_batch_share *out, const char *op, int64_t images);
/* Does a block of at most `block` images (0: one block with all) have images on several ranks? The same answer on all
 * ranks. In a job of one rank it is yes for the block with all images. */
bool cld_batch_spans(const cld_batch_share *share, int64_t block);

/* ---- collectives.c ---- */

/* In place; dense, any dtype (16 bits are sent as f32). scale: for sums of floats. */
cld_status cld_all_reduce(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale);
/* Equal shapes on all ranks: (world, ...), new, off the tape. */
cld_tensor *cld_all_gather(cld_tensor *x);
/* This rank's rows of the sum over the ranks, new, off the tape; x has the same number of rows for each rank, in their
 * order. */
cld_tensor *cld_reduce_scatter(cld_tensor *x);
cld_status cld_broadcast(cld_tensor *const *xs, int count, int from);
cld_status cld_barrier(void);
/* Counts so far: collectives, the bytes that this rank passed to them, the seconds for which its host has waited for
 * them. A captured step counts once. */
typedef struct cld_dist_traffic {
    int64_t collectives, bytes;
    double waited;
} cld_dist_traffic;
cld_dist_traffic cld_dist_counted(void);

/* all_reduce without waiting: from begin to the next join nobody may touch the tensors, which are held until then.
 * Everything that waits for a collective of the device joins. */
cld_status cld_all_reduce_begin(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale);
cld_status cld_dist_join(const cld_backend *device);

/* Rows for another rank, or from it: dense, of any dtype. */
typedef struct cld_parcel {
    int rank;
    cld_tensor *rows;
} cld_parcel;
/* Among neighbours, like kernels/comm.h's exchange: each rank has a parcel for itself. From begin to the next join
 * nobody may touch the tensors, which are held until then. */
cld_status cld_exchange_begin(const cld_parcel *sent, int sends, const cld_parcel *received, int receives);

/* x's rows go to the ranks, sent[r] of them to rank r. The result, off the tape, has the received rows, received[r]
 * from rank r. Every rank sends some. */
cld_tensor *cld_all_to_all(cld_tensor *x, const int64_t *sent, const int64_t *received);

/* Bytes on the host, for data that is not a tensor. Rank `from` has *data (from malloc) and *size; the others receive
 * them. */
cld_status cld_broadcast_bytes(unsigned char **data, size_t *size, int from);
/* Each rank's bytes: *all is from malloc, and rank r's bytes end at ends[r]. */
cld_status cld_gather_bytes(unsigned char **all, size_t *ends, const void *data, size_t size);

/* What each rank requests at this step: for each value, the maximum over the ranks. It is returned by the next call, so
 * a request takes effect one step later and nobody waits. Without a job it is known at once. */
enum { CLD_WISHES = 4 };
cld_status cld_agree(const int64_t wishes[CLD_WISHES], int64_t agreed[CLD_WISHES]);

/* ---- checksum.c ---- */

/* A checksum of the elements' bits, on any device: equal on all ranks if the tensors are. Waits for the device. */
cld_status cld_tensor_checksum(uint64_t *out, cld_tensor *x);

/* ---- pending.c ---- */

/* The tensor was changed by this rank's rows of the current batch, and is to become the mean over the ranks, by their
 * weights. */
cld_status cld_pending_add(cld_tensor *x);
/* Computes the mean of all pending tensors, in the order in which they were added. Called by all ranks. */
cld_status cld_pending_settle(void);

#endif
