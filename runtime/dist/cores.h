/* A rank's share of its machine's cores, for computing on the CPU.
 *
 * mpirun binds each process: to one core if there are at most two processes, else to a socket. A process with threads
 * needs more than one core, and a socket shared by several ranks is too much. So the C cores that the job may use on
 * this machine are divided among its L ranks here.
 *
 * A choice by the user or Slurm stays: mpirun's --bind-to (except none), PE= in --map-by, --cpu-set, --cpu-list and
 * --rankfile; under srun, SLURM_CPUS_PER_TASK and SLURM_CPU_BIND. Open MPI 5 does not tell its processes its command
 * line; there PRTE_MCA_hwloc_default_binding_policy keeps a binding.
 */
#ifndef CLD_DIST_CORES_H
#define CLD_DIST_CORES_H

#include "runtime/core/error.h"

/* Applies to this thread and those that it starts from here on. So call it once, before any threads of MPI and OpenMP;
 * then set OpenMP's number of threads to cld_usable_cores, because libgomp has counted before main. If the system
 * refuses, that is an error, and the process keeps its cores. */
cld_status cld_take_cores(int local_rank, int local_world);

#endif
