/* Which ranks there are, and joining them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/beside.h"
#include "runtime/dist/cores.h"
#include "runtime/dist/launcher.h"
#include "runtime/dist/plugin.h"
#include "runtime/dist/watch.h"

#define LIBRARY "libcld_mpi.so"

static struct {
    const cld_comm_plugin *plugin; /* NULL: no job */
    cld_ranks ranks;
} job = {.ranks = {0, 1, 0, 1, 1}};

cld_ranks cld_dist_ranks(void) { return job.ranks; }

bool cld_dist_alone(void) { return !job.plugin; }

static bool is_job_of_one(void) {
    const char *given = getenv("CLD_JOB_OF_ONE");
    return given && strcmp(given, "1") == 0;
}

const char *cld_dist_library(void) { return job.plugin ? job.plugin->comm->library() : NULL; }

const cld_comm_plugin *cld__dist_plugin(void) { return job.plugin; }

static bool loaded_nothing;

bool cld_dist_fails_alike(void) { return loaded_nothing; }

static const cld_comm_plugin *load(const cld_launcher *l) {
    static const cld_plugin_host host = {cld_fail, cld_error_code, cld_error_message};
    char path[PATH_MAX];
    if (!cld_find_beside(path, sizeof path, LIBRARY, "CLD_MPI_PLUGIN"))
        return (void)cld_launcher_without_mpi(l), NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* MPI loads components that look for its symbols */
    if (!library) return cld_fail_null(CLD_BACKEND, "cannot load '%s': %s", path, dlerror());
    cld_comm_entry_function entry;
    *(void **)&entry = dlsym(library, CLD_COMM_ENTRY);
    const cld_comm_plugin *plugin = entry ? entry(&host) : NULL;
    if (!plugin) return cld_fail_null(CLD_BACKEND, "'%s' is not a library of cldlua's collectives", path);
    if (plugin->version != CLD_BACKEND_VERSION)
        return cld_fail_null(
            CLD_BACKEND,
            "'%s' has version %d of the interface, but this program has %d: build both from the same source",
            path, plugin->version, CLD_BACKEND_VERSION);
    return plugin;
}

/* The folder of MPI's shared library, with links resolved; NULL if unknown. */
static const char *library_folder(char path[PATH_MAX]) {
    Dl_info found;
    void *call = dlsym(RTLD_DEFAULT, "MPI_Init_thread");
    if (!call || !dladdr(call, &found) || !found.dli_fname || !realpath(found.dli_fname, path)) return NULL;
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
    return path;
}

/* Called before MPI and OpenMP start threads. Under srun only MPI knows how many ranks a machine has, so MPI's own
 * thread keeps the old cores, which are enough for it. */
static cld_status take_cores(const cld_launcher *l, const cld_ranks *r) {
    if ((l->local_world > 0) != (r == NULL)) return CLD_OK;
    cld_status status =
        r ? cld_take_cores(r->local_rank, r->local_world) : cld_take_cores(l->local_rank, l->local_world);
    return status == CLD_UNSUPPORTED ? CLD_OK : status; /* it keeps the cores that it was given */
}

/* Seconds, until --timeout sets another. */
static double first_timeout(void) {
    const char *given = getenv("CLD_TIMEOUT");
    return given && *given ? strtod(given, NULL) : 600;
}

/* The ranks exchange the addresses at which they listen, and watch from here on. */
static cld_status start_watch(void) {
    cld_watch_address mine, *all = NULL;
    size_t *ends = calloc((size_t)job.ranks.world, sizeof *ends);
    cld_status status = ends ? cld_watch_listen(&mine) : cld_fail(CLD_NOMEM, "ranks: out of memory");
    if (status == CLD_OK) status = cld_gather_bytes((unsigned char **)&all, ends, &mine, sizeof mine);
    const cld_watch_settings settings = {job.ranks.rank, job.ranks.world, all, first_timeout()};
    if (status == CLD_OK) status = cld_watch_start(&settings);
    free(all);
    free(ends);
    return status;
}

cld_status cld_dist_start(void) {
    cld_launcher l = cld_find_launcher();
    if (!l.name) return CLD_OK;
    if (l.world == 1 && !is_job_of_one())
        return take_cores(&l, NULL); /* mpirun binds a single process to one core */
    const cld_comm_plugin *plugin = load(&l);
    loaded_nothing = !plugin;
    if (!plugin) return cld_error_code();
    const char *library = plugin->comm->library();
    char folder[PATH_MAX];
    if (cld_launcher_told_nothing(&l, library, library_folder(folder)))
        return cld_launcher_apart(&l, library);
    cld_ranks ranks;
    CLD_TRY(take_cores(&l, NULL));
    CLD_TRY(plugin->start(&ranks));
    CLD_TRY(take_cores(&l, &ranks));
    if (ranks.world == 1 && l.world > 1) return cld_launcher_apart(&l, library);
    CLD_TRY(cld_launcher_taken());
    if (ranks.world == 1 && !is_job_of_one()) {
        plugin->stop();
        return CLD_OK;
    }
    job.plugin = plugin;
    job.ranks = ranks;
    return start_watch();
}

void cld_dist_end(void) {
    if (!job.plugin) return;
    job.plugin->stop();
    job.plugin = NULL;
    job.ranks = (cld_ranks){0, 1, 0, 1, 1};
}
