/* The library's one symbol, and joining the job. */
#include <stdio.h>
#include <string.h>

#include "kernels/mpi/mpi_comm.h"

const cld_plugin_host *cld_mpi_host;

static bool failed(int code, const char *call, char *problem, size_t room) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (code == MPI_SUCCESS) return false;
    MPI_Error_string(code, text, &length);
    snprintf(problem, room, "%s: %.*s", call, length, text);
    return true;
}

/* Finds the ranks on this machine, and the number of machines: only the first rank of each machine counts it. */
static bool find_machines(cld_ranks *r, char *problem, size_t room) {
    MPI_Comm here;
    int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, r->rank, MPI_INFO_NULL, &here);
    if (failed(code, "MPI_Comm_split_type", problem, room)) return false;
    MPI_Comm_rank(here, &r->local_rank);
    MPI_Comm_size(here, &r->local_world);
    MPI_Comm_free(&here);
    int first = r->local_rank == 0;
    code = MPI_Allreduce(&first, &r->machines, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return !failed(code, "MPI_Allreduce", problem, room);
}

bool cld_mpi_join_job(cld_ranks *out, char *problem, size_t room) {
    int provided, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    if (failed(code, "MPI_Init_thread", problem, room)) return false;
    if (provided < MPI_THREAD_FUNNELED) {
        snprintf(problem, room, "this MPI was built without support for threads");
        return false;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &out->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &out->world);
    return find_machines(out, problem, room);
}

__attribute__((visibility("default"))) const cld_comm_plugin *cld_comm_entry(const cld_plugin_host *host) {
    static const cld_comm_plugin plugin = {CLD_BACKEND_VERSION, cld_mpi_thread_start, &cld_mpi_comm,
                                           &cld_mpi_lane, cld_mpi_thread_stop};
    cld_mpi_host = host;
    return &plugin;
}
