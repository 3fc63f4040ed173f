/* Collectives: how the ranks of a job, one process each, exchange arrays. They are two optional tables of a device.
 *
 * The CPU's tables come from libcld_mpi.so, which uses MPI, and CUDA's from libcld_cuda.so, which uses NCCL. A program
 * that no launcher started has neither, and needs neither.
 *
 * Every rank calls every collective, in the same order, with arrays of the same dtypes and sizes. Collectives are
 * queued on a lane of their own, beside the device's computations, and run in that order. Only fork and join order the
 * lane and the computations:
 *
 *     ... kernels that write x ...
 *     lane->fork();                        later work on the lane sees x
 *     comm->all_reduce(1, &x, ...);
 *     ... kernels that do not touch x ...
 *     lane->join();                        later computations see the sum
 *
 * All of it may be captured in a graph: fork and join become edges. Before a capture each collective must have run
 * once, and an exchange must have run with the same ranks. Between its collective and the join nobody may write to an
 * array or release it (runtime/dist holds it). If ranks do different things, they hang, so the runtime must make sure
 * that all do the same.
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

/* Bytes sent to another rank, or received from it. */
typedef struct cld_comm_piece {
    int rank;
    void *data;
    int64_t bytes;
} cld_comm_piece;

/* Arrays are dense and row-major: f32, f64, i64, i32 or u8. */
typedef struct cld_comm_ops {
    const char *(*library)(void); /* "Open MPI 4.1.4", "NCCL 2.26.2" */
    /* How a device joins the job, once, at its first collective: rank 0 makes an id, every rank receives it (by the
     * CPU's broadcast) and starts with it. Both NULL: already joined. */
    cld_status (*make_id)(unsigned char id[CLD_COMM_ID_BYTES]);
    cld_status (*start)(const unsigned char id[CLD_COMM_ID_BYTES], int rank, int world);
    /* In place, for each array. Only sums of floats use scale: they are sums of scale times the values. The result is
     * the same to the bit on all ranks and every time. */
    cld_status (*all_reduce)(int count, const struct cld_array *arrays, cld_comm_kind kind, double scale);
    /* out holds the ranks' arrays one after the other. */
    cld_status (*all_gather)(const struct cld_array *out, const struct cld_array *in);
    /* out is this rank's part of the sum of in over the ranks; in has one part per rank, one after the other. */
    cld_status (*reduce_scatter)(const struct cld_array *out, const struct cld_array *in);
    cld_status (*broadcast)(int count, const struct cld_array *arrays, int from);
    /* Among neighbours: each rank lists the ranks that it sends to and those that it receives from, each at most once.
     * Both sides of a pair give the same number of bytes. Every rank has at least one piece, even if it is one that it
     * sends to itself. */
    cld_status (*exchange)(int sends, const cld_comm_piece *sent, int receives,
                           const cld_comm_piece *received);
    /* An error if queued work is known to have failed. Does not wait. */
    cld_status (*check)(void);
} cld_comm_ops;

typedef struct cld_lane_ops {
    cld_status (*fork)(void); /* later collectives see earlier computations */
    cld_status (*join)(void); /* later computations see the collectives' results. The CPU waits here */
} cld_lane_ops;

/* ---- the CPU's library ------------------------------------------------------------------------------------------- */

typedef struct cld_ranks {
    int rank, world;             /* 0 <= rank < world */
    int local_rank, local_world; /* among those on this machine */
    int machines;
} cld_ranks;

typedef struct cld_comm_plugin {
    int version; /* CLD_BACKEND_VERSION */
    /* Joins the job that a launcher has started: called once, waits for all its processes. An error says what is wrong
     * with the launch. */
    cld_status (*start)(cld_ranks *out);
    const cld_comm_ops *comm;
    const cld_lane_ops *lane;
    void (*stop)(void); /* leaves the job cleanly: all ranks call it at the same time */
} cld_comm_plugin;

/* The only symbol of such a library: cld_comm_entry(host), with the program's error record (kernels/backend.h). */
#define CLD_COMM_ENTRY "cld_comm_entry"
struct cld_plugin_host;
typedef const cld_comm_plugin *(*cld_comm_entry_function)(const struct cld_plugin_host *host);

#ifdef __cplusplus
}
#endif

#endif
