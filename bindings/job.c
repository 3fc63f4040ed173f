/* A rank's beginning and end as a process: standard output is rank 0's, and all leave together. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bindings/interpreter.h"
#include "runtime/dist/dist.h"
#include "runtime/dist/watch.h"

/* What is printed is rank 0's; the others do the same. */
static cld_status be_silent(void) {
    int null = open("/dev/null", O_WRONLY);
    bool ok = null >= 0 && dup2(null, STDOUT_FILENO) >= 0;
    if (null > STDERR_FILENO) close(null);
    return ok ? CLD_OK : cld_fail(CLD_IO, "cannot open /dev/null");
}

/* All ranks leave the job together if they end well. One that does not must not wait for the others: MPI would. */
static void leave_job(int status, void *unused) {
    (void)unused;
    cld_watch_end();
    if (status == EXIT_SUCCESS) cld_dist_end();
}

bool cldL_join_job(void) {
    if (cld_dist_start() != CLD_OK) return false;
    if (cld_dist_alone()) return true;
    on_exit(leave_job, NULL);
    return cld_dist_ranks().rank == 0 || be_silent() == CLD_OK;
}
