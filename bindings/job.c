/* How a rank begins and ends as a process: only rank 0 has standard output, and all ranks leave together. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/interpreter.h"
#include "runtime/core/process.h"
#include "runtime/dist/board.h"
#include "runtime/dist/dist.h"
#include "runtime/dist/launcher.h"
#include "runtime/dist/watch.h"

/* Only rank 0 prints: the others would print the same. */
static cld_status be_silent(void) {
    int null = open("/dev/null", O_WRONLY);
    bool ok = null >= 0 && dup2(null, STDOUT_FILENO) >= 0;
    if (null > STDERR_FILENO) close(null);
    return ok ? CLD_OK : cld_fail(CLD_IO, "cannot open /dev/null");
}

#define TOGETHER 2 /* seconds */

/* Ranks that succeed leave the job together. So do ranks that all end with the same other status at the same place in
 * the same script. If only one rank ends that way, it ends the job: it must not wait for the others, as MPI would. */
static void leave_job(int status, void *unused) {
    char message[64];
    (void)unused;
    snprintf(message, sizeof message, "it ended with status %d", status);
    if (status == EXIT_SUCCESS)
        cld_watch_end();
    else if (!cld_watch_end_within(TOGETHER))
        cld_watch_fail(message);
    if (status == EXIT_SUCCESS) return cld_dist_end();
    cld_board_tell(); /* the status says it, if no message does */
    int left = cld_board_hand_over(status);
    if (left == status) return;
    fflush(NULL);
    _exit(left);
}

/* mpirun gives rank 0 a terminal of its own, even if the output goes to a file, where what is redrawn on a terminal
 * every quarter of a second does not belong. `cldlua --ranks`, which leaves a board, has seen to that itself. */
static void heed_output_of_mpirun(void) {
    char link[64], to[PATH_MAX];
    const char *name = cld_find_launcher().name;
    if (cld_board_found() || !name || strcmp(name, "mpirun") != 0 || !isatty(STDOUT_FILENO)) return;
    snprintf(link, sizeof link, "/proc/%ld/fd/%d", (long)getppid(), STDOUT_FILENO);
    ssize_t length = readlink(link, to, sizeof to - 1);
    if (length < 0) return; /* not known */
    to[length] = '\0';
    if (strncmp(to, "/dev/pts/", 9) != 0 && strncmp(to, "/dev/tty", 8) != 0 &&
        strcmp(to, "/dev/console") != 0)
        setenv("TERM", "dumb", 1);
}

bool cldL_tells_of_job(void) { return cld_find_launcher().local_rank <= 0 || !cld_dist_fails_alike(); }

bool cldL_join_job(void) {
    cld_board_find();
    heed_output_of_mpirun();
    cld_signals_mean(cld_board_signal);
    if (cld_dist_start() != CLD_OK) return false;
    if (cld_dist_alone()) return true;
    cld_board_join();
    on_exit(leave_job, NULL);
    return cld_dist_ranks().rank == 0 || be_silent() == CLD_OK;
}
