/* This process and its operating system: memory, time, machine, terminal, and the stop request.
 *
 * Signals. While they are caught, signals that ask a program to end only set a flag that the training loop reads once
 * per step (cld_interrupted), so that it can finish the step and write a checkpoint. The first one counts. A later
 * SIGINT exits at once with status 130; any other later signal changes nothing, because terminals and batch systems
 * repeat theirs.
 *
 * A signal that is ignored stays ignored, as nohup or the shell of a background job intends. SIGQUIT keeps its core
 * dump and SIGTSTP and SIGCONT their meaning.
 *
 * Outside of training Ctrl-C ends the running function: the handler requests a stop (cld_request_stop), and functions
 * that compute for long check between rounds (cld_stop_requested) and return CLD_INTERRUPTED.
 */
#ifndef CLD_CORE_PROCESS_H
#define CLD_CORE_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/core/error.h"

/* Resident bytes now, and the maximum so far (VmHWM); 0 if the system does not say. */
typedef struct cld_resident {
    size_t now, peak;
} cld_resident;
cld_resident cld_resident_memory(void);

double cld_clock(void); /* seconds, monotonic, from an arbitrary start */
/* Waits this many seconds (at most 11 days), or less if a signal comes that this process handles. */
void cld_sleep(double seconds);

/* Bytes that this process may have resident: the machine's memory, or the smallest limit of its control groups and
 * those above them. */
size_t cld_memory_limit(void);

/* Bytes that may still be mapped under `ulimit -v` and `ulimit -d`; SIZE_MAX if there is no limit. */
size_t cld_addresses_left(void);

/* The number of cores that this process may keep busy: those it may run on, or the control groups' CPU quota if that is
 * smaller, rounded up; at least 1. */
int cld_usable_cores(void);

/* From here on the control groups' CPU quota is shared by `parts` processes like this one, which is number `part`. */
void cld_share_quota(int part, int parts);
/* The number of usable cores, given those to run on and a quota; cld_usable_cores uses its own. */
int cld_cores_under(int cores, double quota);

/* Splits `total` things into parts whose sizes differ by at most one. This part begins at *begin; the function returns
 * its end. A part has at least one thing: if there are more parts than things, several parts share one. */
int cld_share_of(int total, int part, int parts, int *begin);

/* The limits of the control groups alone: SIZE_MAX and INFINITY if they set none. root: "", or a folder with another
 * machine's files in proc/self and sys/fs/cgroup. */
typedef struct cld_control_groups {
    size_t memory; /* bytes */
    double cores;  /* the CPU quota, in cores */
} cld_control_groups;
cld_control_groups cld_control_group_limits(const char *root);

typedef struct cld_host {
    long pid;
    int cores;                /* cld_usable_cores */
    char name[128], cpu[128]; /* the machine's name and the processor's model */
} cld_host;
cld_host cld_host_facts(void);

/* The width of standard output; 80 if it is not a terminal, or does not say. */
int cld_terminal_columns(void);
/* Its height; 24 if it does not say. */
int cld_terminal_rows(void);
/* Whether standard output is a terminal that supports cursor movement: TERM is set, and is neither "dumb" nor "unknown"
 * (an editor's shell window, a CI's pseudo-terminal). */
bool cld_terminal(void);
/* Whether the terminal, when asked, says that it shows Sixel graphics. It is asked only once, and has 0.2 s to answer.
 * It is never asked if standard input or output is not a terminal. */
bool cld_terminal_has_sixel(void);

/* Like sigaction with this handler, but an ignored signal stays ignored; then it returns false. *before (may be NULL)
 * is filled in either way. */
bool cld_handle_signal(int number, void (*handler)(int), int flags, struct sigaction *before);

/* Calls nest: the last restore puts back the handlers from before the first catch. CLD_ALL_BUT_SIGINT leaves SIGINT to
 * an interactive prompt. */
typedef enum cld_caught { CLD_ALL_STOP_SIGNALS, CLD_ALL_BUT_SIGINT } cld_caught;
void cld_catch_signals(cld_caught which);
void cld_restore_signals(void);
/* The first signal since the outermost catch, or 0. */
int cld_interrupted(void);
const char *cld_signal_name(int number); /* "INT"; NULL if it is not among the caught ones */
/* Until they are caught, SIGINT and SIGTERM end the process at once with status 130 and 143: for a training that has
 * nothing to save yet. The other signals do so by default. */
void cld_leave_on_signals(void);
/* The same for a signal that nobody handles. It can still be caught. */
void cld_leave_on(int number);
void cld_leave_no_more(int number);
/* A function to call instead of exiting, so that others can be told first. It is called in the handler with the status.
 * NULL: the default. */
void cld_leave_with(void (*leave)(int status));
/* Maps a signal to the one it stands for: called in handlers. NULL: each stands for itself. */
void cld_signals_mean(int (*meaning)(int number));

void cld_request_stop(bool wanted); /* also from a signal handler */
bool cld_stop_requested(void);

#endif
