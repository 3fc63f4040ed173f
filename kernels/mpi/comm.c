/* The table of collectives: each call becomes an order for the thread (thread.c). */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mpi/mpi_comm.h"

static const char *library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (text[0]) return text;
    MPI_Get_library_version(text, &length); /* "Open MPI v4.1.4, package: ..., ident: ..., repo rev: ..." */
    text[strcspn(text, ",\n")] = '\0';
    char *v = strstr(text, " v");
    if (v) memmove(v + 1, v + 2, strlen(v + 2) + 1);
    return text;
}

/* MPI counts in ints. */
static cld_status check_count(int64_t n, const char *unit, const char *what) {
    if (n <= INT_MAX) return CLD_OK;
    return cld_mpi_fail(CLD_UNSUPPORTED, "%s: %lld %s at once; MPI takes at most %d", what, (long long)n,
                        unit, INT_MAX);
}

static cld_status count_of(int *out, const cld_array *a, const char *what) {
    int64_t n = cld_numel(a);
    CLD_TRY(check_count(n, a->dtype == CLD_U8 ? "bytes" : "elements", what));
    *out = (int)n;
    return CLD_OK;
}

static cld_status all_reduce(int count, const cld_array *arrays, cld_comm_kind kind, double scale) {
    const MPI_Op ops[] = {[CLD_COMM_SUM] = MPI_SUM, [CLD_COMM_MAX] = MPI_MAX, [CLD_COMM_MIN] = MPI_MIN};
    for (int i = 0; i < count; i++) {
        cld_mpi_order order = {.kind = CLD_MPI_REDUCE,
                               .out = arrays[i].data,
                               .dtype = arrays[i].dtype,
                               .op = ops[kind],
                               .scale = scale};
        CLD_TRY(count_of(&order.count, &arrays[i], "all_reduce"));
        CLD_TRY(cld_mpi_queue(&order));
    }
    return CLD_OK;
}

static cld_status all_gather(const cld_array *out, const cld_array *in) {
    cld_mpi_order order = {
        .kind = CLD_MPI_GATHER, .in = in->data, .out = out->data, .dtype = in->dtype, .scale = 1};
    CLD_TRY(count_of(&order.count, in, "all_gather"));
    return cld_mpi_queue(&order);
}

static cld_status reduce_scatter(const cld_array *out, const cld_array *in) {
    cld_mpi_order order = {.kind = CLD_MPI_REDUCE_SCATTER,
                           .in = in->data,
                           .out = out->data,
                           .dtype = in->dtype,
                           .op = MPI_SUM,
                           .scale = 1};
    CLD_TRY(count_of(&order.count, out, "reduce_scatter"));
    return cld_mpi_queue(&order);
}

static cld_status broadcast(int count, const cld_array *arrays, int from) {
    for (int i = 0; i < count; i++) {
        cld_mpi_order order = {.kind = CLD_MPI_BROADCAST,
                               .out = arrays[i].data,
                               .dtype = arrays[i].dtype,
                               .scale = 1,
                               .from = from};
        CLD_TRY(count_of(&order.count, &arrays[i], "broadcast"));
        CLD_TRY(cld_mpi_queue(&order));
    }
    return CLD_OK;
}

static cld_status exchange(int sends, const cld_comm_piece *sent, int receives,
                           const cld_comm_piece *received) {
    cld_mpi_order order = {.kind = CLD_MPI_EXCHANGE, .sends = sends, .receives = receives};
    for (int i = 0; i < sends; i++) CLD_TRY(check_count(sent[i].bytes, "bytes", "exchange"));
    for (int i = 0; i < receives; i++) CLD_TRY(check_count(received[i].bytes, "bytes", "exchange"));
    order.pieces = malloc((size_t)(sends + receives) * sizeof *order.pieces);
    if (!order.pieces) return cld_mpi_fail(CLD_NOMEM, "exchange: out of memory");
    memcpy(order.pieces, sent, (size_t)sends * sizeof *sent);
    memcpy(order.pieces + sends, received, (size_t)receives * sizeof *received);
    cld_status status = cld_mpi_queue(&order);
    if (status != CLD_OK) free(order.pieces);
    return status;
}

/* What the main thread has computed is already in memory. */
static cld_status lane_fork(void) { return CLD_OK; }

const cld_comm_ops cld_mpi_comm = {.library = library,
                                   .all_reduce = all_reduce,
                                   .all_gather = all_gather,
                                   .reduce_scatter = reduce_scatter,
                                   .broadcast = broadcast,
                                   .exchange = exchange,
                                   .check = cld_mpi_check};
const cld_lane_ops cld_mpi_lane = {.fork = lane_fork, .join = cld_mpi_wait};
