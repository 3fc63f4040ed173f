/* Many processes, one training: README.md says what they compute. With one rank all of this is there, and does nothing.
 *
 * A collective is called by all ranks, in the same order, with tensors of the same dtypes and shapes. On a device that
 * queues its work it is queued too. An error of the job (a rank that is gone, a network that fails) ends the process:
 * what the other ranks do then, nobody knows.
 */
#ifndef CLD_DIST_DIST_H
#define CLD_DIST_DIST_H

#include "kernels/comm.h"
#include "runtime/tensor/tensor.h"

/* ---- ranks.c ---- */

/* Joins the job, if a launcher has started this program (mpirun, srun): before anything else. An error says what is wrong
 * with the launch. A program that such a process starts is not part of the job. */
cld_status cld_dist_start(void);
/* After an error of start: every rank of the machine has it, and one need tell it. */
bool cld_dist_fails_alike(void);
/* Leaves it, together with the others. */
void cld_dist_end(void);

/* {0, 1, 0, 1, 1} without a job. */
cld_ranks cld_dist_ranks(void);
/* There is no job, and no collective. A launcher's one process is alone too, unless CLD_JOB_OF_ONE=1 in the environment
 * makes it a job of one rank, for checks: its batches are split, and it goes through every collective, as one of several. */
bool cld_dist_alone(void);
/* Who carries the CPU's tensors: "Open MPI 4.1.4"; NULL: nobody. */
const char *cld_dist_library(void);

/* ---- batch.c: the batch at hand ---- */

typedef struct cld_batch_share {
    bool split; /* each rank has rows of its own; else all have the same, all of them */
    int64_t total,
        block;           /* rows of the whole batch; by blocks of at most so many (0: no matter) it was cut */
    int64_t begin, rows; /* this rank's: [begin, begin + rows) */
} cld_batch_share;

/* Rank r's rows of a batch begin here; r = world: total. If there are as many blocks as ranks (cld_block_count), a rank
 * has whole ones. Sizes differ by one row, or one block, at most. */
int64_t cld_batch_begin(int64_t total, int64_t block, int world, int rank);
/* A rank's share; not split if there are fewer rows than ranks, or one rank that is no job. */
cld_batch_share cld_split_batch(int64_t total, int64_t block, int world, int rank);

/* From here on steps are of this batch. NULL: of what all ranks have alike. What is pending is settled before. */
cld_status cld_set_batch_at_hand(const cld_batch_share *share);
cld_batch_share cld_batch_at_hand(void);
/* What this rank's loss counts for in the job's: rows / total, or 1 / world. */
double cld_batch_weight(void);

/* Which of the batch's images so many on this rank are: all that it has of the batch at hand, or as many on each rank, if
 * that is split evenly; *out is split if the ranks' differ. An error says that these are neither. */
cld_status cld_images_of_batch(cld_batch_share *out, const char *op, int64_t images);
/* Does a block of at most `block` images (0: one of all) have images on several ranks? The same answer on all of them. The
 * block of all does in a job of one, too. */
bool cld_batch_spans(const cld_batch_share *share, int64_t block);

/* ---- collectives.c ---- */

/* In place; dense, any dtype (16 bits travel as f32). scale: of sums of floats. */
cld_status cld_all_reduce(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale);
/* Of equal shapes on all ranks: (world, ...), new, off the tape. */
cld_tensor *cld_all_gather(cld_tensor *x);
/* This rank's rows of the sum over the ranks, new, off the tape: x's rows are as many for each rank, in their order. */
cld_tensor *cld_reduce_scatter(cld_tensor *x);
cld_status cld_broadcast(cld_tensor *const *xs, int count, int from);
cld_status cld_barrier(void);
/* So far: collectives and the bytes that this rank gave to them, the seconds for which its host has waited for them. A
 * captured step counts once. */
typedef struct cld_dist_traffic {
    int64_t collectives, bytes;
    double waited;
} cld_dist_traffic;
cld_dist_traffic cld_dist_counted(void);

/* all_reduce without a wait: from begin to the next join nobody may touch the tensors, which are held until then. Whatever
 * waits for a collective of the device joins. */
cld_status cld_all_reduce_begin(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale);
cld_status cld_dist_join(const cld_backend *device);

/* Rows for another rank, or from it: dense, of any dtype. */
typedef struct cld_parcel {
    int rank;
    cld_tensor *rows;
} cld_parcel;
/* Among neighbours, as kernels/comm.h's exchange: each has a parcel for itself. From begin to the next join nobody may
 * touch the tensors, which are held until then. */
cld_status cld_exchange_begin(const cld_parcel *sent, int sends, const cld_parcel *received, int receives);

/* x's rows go to the ranks, sent[r] of them to rank r; the result, off the tape, has those that came, received[r] from rank
 * r. Some go from every rank. */
cld_tensor *cld_all_to_all(cld_tensor *x, const int64_t *sent, const int64_t *received);

/* Bytes of the host, for what is no tensor. Rank `from` has *data, malloc's, of *size; the others get them. */
cld_status cld_broadcast_bytes(unsigned char **data, size_t *size, int from);
/* Each rank's bytes: *all is malloc's, ends[r] where rank r's end. */
cld_status cld_gather_bytes(unsigned char **all, size_t *ends, const void *data, size_t size);

/* What each rank wishes at this step, the largest over the ranks of each value. It is known at the next call, which
 * returns it: a wish waits one step, and nobody waits for it. Without a job it is known at once. */
enum { CLD_WISHES = 4 };
cld_status cld_agree(const int64_t wishes[CLD_WISHES], int64_t agreed[CLD_WISHES]);

/* ---- checksum.c ---- */

/* Of the elements' bits, on whatever device: equal on all ranks for what all hold alike. Waits for the device. */
cld_status cld_tensor_checksum(uint64_t *out, cld_tensor *x);

/* ---- pending.c ---- */

/* The tensor was changed by this rank's rows of the batch at hand, and is to be the mean over the ranks, by their weights. */
cld_status cld_pending_add(cld_tensor *x);
/* It is, from here on: all that are pending, in the order in which they were added. Called by all ranks. */
cld_status cld_pending_settle(void);

#endif
