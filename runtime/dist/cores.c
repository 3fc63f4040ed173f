/* This rank's share of the cores: lists them in an order that keeps neighbours together, and cuts that list. */
#define _GNU_SOURCE
#include "runtime/dist/cores.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/process.h"
#include "runtime/dist/launcher.h"

enum { MOST_CPUS = 8192 }; /* Linux supports no more */
typedef struct cpu_mask {
    cpu_set_t bits[MOST_CPUS / CPU_SETSIZE];
} cpu_mask;

/* ---- who chose the cores that we have ---- */

static bool is_set(const char *variable) {
    const char *value = getenv(variable);
    return value && *value;
}

static bool asks_for_cores(const char *mapping) {
    const char *value = getenv(mapping);
    return value && strcasestr(value, "PE=") != NULL;
}

static bool binds(const char *policy) { return is_set(policy) && strncmp(getenv(policy), "none", 4) != 0; }

/* Whether the user of mpirun chose them. */
static bool chosen(void) {
    return binds("OMPI_MCA_hwloc_base_binding_policy") || is_set("OMPI_MCA_hwloc_base_cpu_set") ||
           is_set("OMPI_MCA_hwloc_base_cpu_list") || is_set("OMPI_MCA_orte_rankfile") ||
           asks_for_cores("OMPI_MCA_rmaps_base_mapping_policy") ||
           binds("PRTE_MCA_hwloc_default_binding_policy") || is_set("PRTE_MCA_hwloc_default_cpu_list") ||
           asks_for_cores("PRTE_MCA_rmaps_default_mapping_policy");
}

/* Whether mpirun bound the process by itself. Open MPI 4 says so; Open MPI 5 always binds, unless told otherwise. If it
 * has not, the cores are those that the user has given to mpirun (taskset). */
static bool bound(void) {
    const char *policy = getenv("PRTE_MCA_hwloc_default_binding_policy");
    if (getenv("OMPI_MCA_orte_launch")) return getenv("OMPI_MCA_orte_bound_at_launch") != NULL;
    return getenv("PMIX_RANK") && !(policy && strncmp(policy, "none", 4) == 0);
}

/* ---- which cores there are ---- */

typedef struct cpu {
    int package, core; /* its socket; the first hardware thread of its core */
    int id;
    int unit; /* the position of its core among all cores */
} cpu;

/* An integer at the start of a file under the CPU's topology; `unknown` if the system does not say. */
static int topology(int id, const char *file, int unknown) {
    char path[PATH_MAX];
    int value;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", id, file);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &value) != 1) value = unknown;
    if (f) fclose(f);
    return value;
}

static int by_place(const void *a, const void *b) {
    const cpu *x = a, *y = b;
    if (x->package != y->package) return x->package < y->package ? -1 : 1;
    if (x->core != y->core) return x->core < y->core ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The CPUs of the mask, socket by socket, with the hardware threads of a core together. Returns how many. */
static int list_cpus(cpu *cpus, const cpu_mask *mask) {
    int count = 0;
    for (int id = 0; id < MOST_CPUS; id++) {
        if (!CPU_ISSET_S((size_t)id, sizeof *mask, mask->bits)) continue;
        int package = topology(id, "physical_package_id", 0), core = topology(id, "thread_siblings_list", id);
        cpus[count++] = (cpu){.package = package, .core = core, .id = id};
    }
    qsort(cpus, (size_t)count, sizeof *cpus, by_place);
    for (int i = 1; i < count; i++) {
        bool same = cpus[i].package == cpus[i - 1].package && cpus[i].core == cpus[i - 1].core;
        cpus[i].unit = cpus[i - 1].unit + !same;
    }
    return count;
}

/* Whole cores as long as each rank gets one, else hardware threads, which several ranks share if there are too few. */
static void cut(cpu_mask *mine, cpu *cpus, int count, int part, int parts) {
    int units = cpus[count - 1].unit + 1;
    bool whole = units >= parts;
    int begin, end = cld_share_of(whole ? units : count, part, parts, &begin);
    memset(mine, 0, sizeof *mine);
    for (int i = 0; i < count; i++) {
        int at = whole ? cpus[i].unit : i;
        if (at >= begin && at < end) CPU_SET_S((size_t)cpus[i].id, sizeof *mine, mine->bits);
    }
}

/* ---- taking them ---- */

static bool apply(const cpu_mask *mask) { return sched_setaffinity(0, sizeof *mask, mask->bits) == 0; }

/* Sets every CPU: the kernel reduces that to what the control groups allow. */
static bool widen(cpu_mask *mask) {
    cpu_mask all;
    memset(&all, 0xff, sizeof all);
    return apply(&all) && sched_getaffinity(0, sizeof *mask, mask->bits) == 0;
}

cld_status cld_take_cores(int local_rank, int local_world) {
    cpu_mask before = {0}, mask = {0};
    if (local_rank < 0 || local_rank >= local_world)
        return cld_fail(CLD_INVALID, "ranks: there is no local rank %d of %d", local_rank, local_world);
    cld_share_quota(local_rank, local_world);
    cld_launcher l = cld_launcher_around();
    bool srun = l.name && strcmp(l.name, "srun") == 0;
    if (srun ? is_set("SLURM_CPUS_PER_TASK") || is_set("SLURM_CPU_BIND") : chosen()) return CLD_OK;
    cpu *cpus = malloc(MOST_CPUS * sizeof *cpus);
    if (!cpus) return cld_fail(CLD_NOMEM, "ranks: not enough memory to list the machine's cores");
    bool had = sched_getaffinity(0, sizeof before, before.bits) == 0, taken = had;
    mask = before;
    if (taken && !srun && bound()) taken = widen(&mask);
    int count = taken ? list_cpus(cpus, &mask) : 0;
    if (count > 0) cut(&mask, cpus, count, local_rank, local_world);
    taken = count > 0 && apply(&mask);
    int why = errno;
    free(cpus);
    if (taken) return CLD_OK;
    if (had) apply(&before);
    return cld_fail(CLD_UNSUPPORTED, "ranks: the system does not let this process choose its cores: %s",
                    strerror(why));
}
