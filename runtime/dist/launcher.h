/* Which launcher, if any, has started this process as one of several: from the environment alone, before MPI is loaded.
 *
 * The child processes of a rank inherit the variables of mpirun and srun. So a process that joins a job marks its
 * environment, and a program that it starts is not a rank. The mark names the job and the rank, and counts for no
 * other: an mpirun that a rank's script starts has its own ranks.
 */
#ifndef CLD_DIST_LAUNCHER_H
#define CLD_DIST_LAUNCHER_H

#include <stdbool.h>

#include "runtime/core/error.h"

/* The variable of the mark, which `cldlua -E` must keep. */
#define CLD_RANK_TAKEN "CLD_RANK_TAKEN"

/* -1: not known from the environment; MPI knows. */
typedef struct cld_launcher {
    const char *name; /* for messages: "mpirun" or "srun"; NULL: not started as a rank */
    int world, rank;  /* a job of one process is a job too */
    int local_rank, local_world;
} cld_launcher;

/* The job that this process should join: none if a process that has joined it started this one. */
cld_launcher cld_find_launcher(void);
/* The job around this process: its own, or that of a process above it. */
cld_launcher cld_launcher_around(void);

/* From here on, child processes and cld_find_launcher see no job. Call it before threads read the environment. */
cld_status cld_launcher_taken(void);

/* Whether it is known before MPI_Init that the MPI of these tasks, `library`, will not find the other tasks. Open MPI
 * would end the process there, with its own message. folder: its shared library's; NULL: unknown. */
bool cld_launcher_told_nothing(const cld_launcher *l, const char *library, const char *folder);

/* ---- what is wrong with a launch: each fails, with a message for the user ---- */

/* The program has no libcld_mpi.so. */
cld_status cld_launcher_without_mpi(const cld_launcher *l);
/* The launcher has started several processes, but the MPI of each, `library` ("Open MPI 4.1.4"), sees only one. */
cld_status cld_launcher_apart(const cld_launcher *l, const char *library);

#endif
