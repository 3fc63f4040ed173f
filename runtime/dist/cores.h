/* A rank's share of its machine's cores, for computing on the CPU.
 *
 * mpirun binds each process: to one core if there are at most two of them, else to a socket. For a process that has
 * threads one core is too few, and a socket that several ranks have is too much. So the C cores that the job may use
 * here are divided among its L ranks on this machine.
 *
 * What the user or Slurm has chosen stays: mpirun's --bind-to (but for none), PE= in --map-by, --cpu-set, --cpu-list
 * and --rankfile; under srun, SLURM_CPUS_PER_TASK and SLURM_CPU_BIND. Open MPI 5 tells its processes nothing of its
 * command line; there PRTE_MCA_hwloc_default_binding_policy keeps a binding.
 */
#ifndef CLD_DIST_CORES_H
#define CLD_DIST_CORES_H

#include "runtime/core/error.h"

/* Of this thread and those that it starts from here on. So once, before any of MPI's and OpenMP's; then OpenMP's number
 * is to be set to cld_usable_cores, as libgomp has counted before main. A system that refuses is an error, after which
 * the process has the cores that it had. */
cld_status cld_take_cores(int local_rank, int local_world);

#endif
