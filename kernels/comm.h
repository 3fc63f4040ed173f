/* Collectives: how the ranks of a job, one process each, exchange arrays. Two optional tables of a device.
 *
 * The CPU's come from libcld_mpi.so, which computes with MPI; those of CUDA from libcld_cuda.so, with NCCL. A program
 * that no launcher started has neither, and needs neither.
 *
 * Every collective is called by every rank, in the same order, with arrays of the same dtypes and sizes. They are
 * queued on a lane of their own, beside what the device computes, and done in that order. What is queued on the lane
 * and what is computed are put in order by fork and join alone:
 *
 *     ... kernels that write x ...
 *     lane->fork();                        what follows on the lane sees x
 *     comm->all_reduce(1, &x, ...);
 *     ... kernels that do not touch x ...
 *     lane->join();                        what is computed from here on sees the sum
 *
 * All of it may be captured in a graph: fork and join become edges. Each collective must have run once before a
 * capture, an exchange with the same ranks. Nobody writes to, or lets go of, an array between its collective and the join (runtime/dist holds them).
 * Ranks that do different things hang; that they do the same is the runtime's to see to.
 */
#ifndef CLD_KERNELS_COMM_H
#define CLD_KERNELS_COMM_H

#include <stdint.h>

#include "runtime/core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cld_comm_kind { CLD_COMM_SUM, CLD_COMM_MAX, CLD_COMM_MIN } cld_comm_kind;

enum { CLD_COMM_ID_BYTES = 128 };

struct cld_array;

/* Bytes that go to another rank, or come from it. */
typedef struct cld_comm_piece {
    int rank;
    void *data;
    int64_t bytes;
} cld_comm_piece;

/* Arrays are dense and row-major: f32, f64, i64, i32 or u8. */
typedef struct cld_comm_ops {
    const char *(*library)(void); /* "Open MPI 4.1.4", "NCCL 2.26.2" */
    /* How a device joins the job, once, at its first collective: rank 0 makes an id, every rank gets it (by the CPU's
     * broadcast) and starts with it. NULL, both: joined already. */
    cld_status (*make_id)(unsigned char id[CLD_COMM_ID_BYTES]);
    cld_status (*start)(const unsigned char id[CLD_COMM_ID_BYTES], int rank, int world);
    /* In place, of each array; sums of floats alone are of scale times the values. The same bits on all ranks, and each
     * time. */
    cld_status (*all_reduce)(int count, const struct cld_array *arrays, cld_comm_kind kind, double scale);
    /* out has the ranks' arrays one after the other. */
    cld_status (*all_gather)(const struct cld_array *out, const struct cld_array *in);
    /* out is this rank's part of the sum over the ranks of in, which has a part for each, one after the other. */
    cld_status (*reduce_scatter)(const struct cld_array *out, const struct cld_array *in);
    cld_status (*broadcast)(int count, const struct cld_array *arrays, int from);
    /* Among neighbours: each rank names the ranks that it sends to, and those that it receives from, each once at most; of
     * every two both give the same number of bytes. Every rank has one piece at least: its own, which it may send to
     * itself. */
    cld_status (*exchange)(int sends, const cld_comm_piece *sent, int receives,
                           const cld_comm_piece *received);
    /* Whether something that was queued has failed, as far as is known; waits for nothing. */
    cld_status (*check)(void);
} cld_comm_ops;

typedef struct cld_lane_ops {
    cld_status (*fork)(void); /* collectives from here on see what was computed before */
    cld_status (*join)(void); /* what is computed from here on sees their results. The CPU waits here */
} cld_lane_ops;

/* ---- the CPU's library ------------------------------------------------------------------------------------------- */

typedef struct cld_ranks {
    int rank, world;             /* 0 <= rank < world */
    int local_rank, local_world; /* among those on this machine */
    int machines;
} cld_ranks;

typedef struct cld_comm_plugin {
    int version; /* CLD_BACKEND_VERSION */
    /* Joins the job that a launcher has started: once, and waits for all its processes. An error says what is wrong with
     * the launch. */
    cld_status (*start)(cld_ranks *out);
    const cld_comm_ops *comm;
    const cld_lane_ops *lane;
    void (*stop)(void); /* leaves it, in good order: all ranks do so at once */
} cld_comm_plugin;

/* The one symbol of such a library: cld_comm_entry(host), with the program's error record (kernels/backend.h). */
#define CLD_COMM_ENTRY "cld_comm_entry"
struct cld_plugin_host;
typedef const cld_comm_plugin *(*cld_comm_entry_function)(const struct cld_plugin_host *host);

#ifdef __cplusplus
}
#endif

#endif
