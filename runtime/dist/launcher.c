/* Which launcher has started this process: from the variables of Open MPI's mpirun, MPICH's, PMIx and Slurm. */
#define _GNU_SOURCE
#include "runtime/dist/launcher.h"

#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The variable's value, an integer of at least 0; else -1. */
static int number(const char *variable) {
    const char *text = getenv(variable);
    char *end;
    if (!text || *text < '0' || *text > '9') return -1;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value <= INT_MAX ? (int)value : -1;
}

/* The variables of one kind of launcher; NULL if it does not have that one. */
typedef struct names {
    const char *rank, *world, *local_rank, *local_world;
} names;

static const names open_mpi = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                               "OMPI_COMM_WORLD_LOCAL_SIZE"};
static const names hydra = {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
/* Never SLURM_NTASKS: a batch script has it too, although it is a single process. Only the tasks of a step have
 * this. */
static const names slurm = {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL};

static cld_launcher read_as(const char *name, const names *of) {
    cld_launcher l = {.name = name, .local_rank = -1, .local_world = -1};
    l.rank = number(of->rank);
    l.world = number(of->world);
    if (of->local_rank) l.local_rank = number(of->local_rank);
    if (of->local_world) l.local_world = number(of->local_world);
    if (l.rank < 0 || l.rank >= l.world) l.name = NULL;
    return l;
}

/* A rank of mpirun in a Slurm job also has Slurm's variables, from the step that started its daemon. So mpirun's
 * variables go first; PMI and PMIx belong to srun if their rank is Slurm's. */
cld_launcher cld_launcher_around(void) {
    cld_launcher found = read_as("mpirun", &open_mpi), step = read_as("srun", &slurm);
    if (found.name) return found;
    found = read_as("mpirun", &hydra);
    if (found.name && (!step.name || step.rank != found.rank || step.world != found.world)) return found;
    int rank = number("PMIX_RANK");
    if (step.name && (rank < 0 || rank == step.rank)) return step;
    if (rank < 0) return (cld_launcher){NULL, -1, -1, -1, -1};
    return (cld_launcher){"mpirun", -1, rank, -1, -1}; /* PMIx's own prterun: MPI knows the rest */
}

/* Whether Open MPI has a component whose name matches the pattern, in its own installation or in Debian's. */
static bool has_part(const char *folder, const char *pattern) {
    char path[PATH_MAX];
    glob_t found;
    int length = snprintf(path, sizeof path, "%s/{,openmpi/lib/}openmpi*/%s", folder, pattern);
    if (length < 0 || (size_t)length >= sizeof path || glob(path, GLOB_BRACE, NULL, &found) != 0)
        return false;
    globfree(&found);
    return true;
}

/* Open MPI 4 needs a component of its own for Slurm's and Cray's PMI-2, which Debian's does not have; Open MPI 5 does
 * not support them at all. If no such components are files, they may be inside the library. */
static bool understands_pmi(const char *library, const char *folder) {
    int major;
    if (sscanf(library, "Open MPI %d", &major) == 1 && major >= 5) return false;
    return !folder || !has_part(folder, "mca_pmix_*.so") || has_part(folder, "mca_pmix_s[12].so") ||
           has_part(folder, "mca_pmix_cray.so");
}

/* True for srun without --mpi, or with one that sets no rank, or that this MPI does not support. */
bool cld_launcher_told_nothing(const cld_launcher *l, const char *library, const char *folder) {
    bool is_srun = l->name && strcmp(l->name, "srun") == 0 && l->world > 1;
    bool untold = is_srun && strncmp(library, "Open MPI", 8) == 0 && number("PMIX_RANK") < 0;
    return untold && (number("PMI_RANK") < 0 || !understands_pmi(library, folder));
}

/* ---- the mark ---- */

/* A text that identifies the job and the rank. */
static void identify(char *text, size_t size) {
    static const char *const of_job[] = {"PMIX_NAMESPACE", "PMI_JOBID", "SLURM_JOB_ID", "SLURM_STEP_ID"};
    cld_launcher l = cld_launcher_around();
    int used = snprintf(text, size, "%s:%d/%d", l.name ? l.name : "", l.rank, l.world);
    for (size_t i = 0; i < sizeof of_job / sizeof *of_job && used >= 0 && (size_t)used < size; i++) {
        const char *value = getenv(of_job[i]);
        used += snprintf(text + used, size - (size_t)used, ":%s", value ? value : "");
    }
}

cld_launcher cld_find_launcher(void) {
    char here[512];
    const char *mark = getenv(CLD_RANK_TAKEN);
    identify(here, sizeof here);
    if (mark && strcmp(mark, here) == 0) return (cld_launcher){NULL, -1, -1, -1, -1};
    return cld_launcher_around();
}

cld_status cld_launcher_taken(void) {
    char here[512];
    identify(here, sizeof here);
    if (setenv(CLD_RANK_TAKEN, here, 1) != 0)
        return cld_fail(CLD_NOMEM, "ranks: not enough memory to mark the environment");
    return CLD_OK;
}

/* ---- messages ---- */

/* "mpirun has started 4 processes of this program" */
static const char *started(char text[96], const cld_launcher *l) {
    if (l->world > 1)
        snprintf(text, 96, "%s has started %d processes of this program", l->name, l->world);
    else
        snprintf(text, 96, "%s has started %s of this program", l->name,
                 l->world == 1 ? "one process" : "several processes");
    return text;
}

cld_status cld_launcher_without_mpi(const cld_launcher *l) {
    char text[96];
    return cld_fail(CLD_UNSUPPORTED,
                    "%s, which was built without MPI: install libopenmpi-dev and openmpi-bin, then make",
                    started(text, l));
}

cld_status cld_launcher_apart(const cld_launcher *l, const char *library) {
    char text[96];
    started(text, l);
    if (strcmp(l->name, "srun") == 0)
        return cld_fail(
            CLD_INVALID,
            "%s, but they do not find each other: its MPI, %s, was not told about the others. Start "
            "them with `srun --mpi=pmix`; `srun --mpi=list` shows whether this Slurm has pmix. If it does "
            "not, use mpirun inside the job",
            text, library);
    return cld_fail(CLD_INVALID,
                    "%s, but they do not find each other: the program uses %s, and this mpirun belongs to "
                    "another MPI. Start it with the mpirun of %s (`mpirun --version` says whose it is)",
                    text, library, library);
}
