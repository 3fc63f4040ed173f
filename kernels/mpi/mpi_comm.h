/* Shared by the files of this folder. */
#ifndef CLD_KERNELS_MPI_COMM_H
#define CLD_KERNELS_MPI_COMM_H

#include <mpi.h>

#include "kernels/backend.h"
#include "kernels/comm.h"

typedef enum cld_mpi_kind {
    CLD_MPI_REDUCE,
    CLD_MPI_GATHER,
    CLD_MPI_REDUCE_SCATTER,
    CLD_MPI_BROADCAST,
    CLD_MPI_EXCHANGE,
    CLD_MPI_STOP
} cld_mpi_kind;

typedef struct cld_mpi_order {
    cld_mpi_kind kind;
    const void *in; /* NULL: in place */
    void *out;
    int count; /* elements per rank */
    cld_dtype dtype;
    MPI_Op op;
    double scale; /* applied to the values of a sum before they are added up */
    int from;
    int sends, receives;    /* of an exchange */
    cld_comm_piece *pieces; /* the ones to send, then the ones to receive; from malloc, owned by the order */
    struct cld_mpi_order *next;
} cld_mpi_order;

/* ---- thread.c ---- */

/* Starts the thread, which joins the job and then serves the queue. */
cld_status cld_mpi_thread_start(cld_ranks *out);
/* Finishes what is queued, leaves the job and ends the thread. */
void cld_mpi_thread_stop(void);
/* Copies the order. */
cld_status cld_mpi_queue(const cld_mpi_order *order);
/* Waits until all queued work is done. After an error, every later call reports it too. */
cld_status cld_mpi_wait(void);
cld_status cld_mpi_check(void);

/* ---- plugin.c: on the thread ---- */

/* Calls MPI_Init and finds out which ranks there are. On failure writes at most `room` bytes of text to problem. */
bool cld_mpi_join_job(cld_ranks *out, char *problem, size_t room);

/* ---- comm.c ---- */

extern const cld_comm_ops cld_mpi_comm;
extern const cld_lane_ops cld_mpi_lane;

/* The program's error record. */
extern const cld_plugin_host *cld_mpi_host;
#define cld_mpi_fail(...) (cld_mpi_host->fail(__VA_ARGS__))

#endif
