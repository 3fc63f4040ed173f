/* Which launcher, if any, has started this process as one of several: from the environment alone, before MPI is there.
 *
 * The ranks of mpirun and srun have the same variables as whatever they start in turn. So a process that joins a job
 * marks its environment, and a program that it starts is a plain one again. The mark names the job and the rank, and
 * counts for no other: an mpirun that a rank's script starts has ranks of its own.
 */
#ifndef CLD_DIST_LAUNCHER_H
#define CLD_DIST_LAUNCHER_H

#include <stdbool.h>

#include "runtime/core/error.h"

/* The mark's variable, which `cldlua -E` must keep. */
#define CLD_RANK_TAKEN "CLD_RANK_TAKEN"

/* -1: the environment does not say. MPI does. */
typedef struct cld_launcher {
    const char *name; /* for messages: "mpirun" or "srun"; NULL: nobody has started this process as a rank */
    int world, rank;  /* a job of one process is a job too */
    int local_rank, local_world;
} cld_launcher;

/* The job that this process is to join: none if it was started by a process that has joined it. */
cld_launcher cld_find_launcher(void);
/* The job around this process, as its own or that of a process above it. */
cld_launcher cld_launcher_around(void);

/* From here on what this process starts, and cld_find_launcher, see no job. Before threads that read the environment. */
cld_status cld_launcher_taken(void);

/* Whether it is known before MPI_Init that the MPI of these tasks, `library`, will not find the others. Open MPI would end
 * the process there, with words of its own. folder: where its shared library lies; NULL: unknown. */
bool cld_launcher_told_nothing(const cld_launcher *l, const char *library, const char *folder);

/* ---- what is wrong with a launch: each fails, with the sentence for the user ---- */

/* The program has no libcld_mpi.so. */
cld_status cld_launcher_without_mpi(const cld_launcher *l);
/* The launcher has started several processes, but the MPI of each, `library` ("Open MPI 4.1.4"), knows of one alone. */
cld_status cld_launcher_apart(const cld_launcher *l, const char *library);

#endif
