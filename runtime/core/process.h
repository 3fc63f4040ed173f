/* What the operating system knows of this process: memory, time, machine, terminal, and the wish to stop.
 *
 * Signals. While they are caught, those that ask a program to end only leave a note that the training loop reads
 * once per step (cld_interrupted), so that it can end the step and write a checkpoint. The first one counts. A SIGINT
 * after it leaves at once, status 130; any other changes nothing, because terminals and batch systems repeat theirs.
 *
 * A signal that is ignored stays ignored: nohup or the shell of a background job wants it so. SIGQUIT keeps its
 * core dump and SIGTSTP and SIGCONT their meaning.
 *
 * Elsewhere Ctrl-C ends what runs: whoever hears it asks for that (cld_request_stop), and what computes for
 * long in many rounds looks between them (cld_stop_requested) and returns CLD_INTERRUPTED.
 */
#ifndef CLD_CORE_PROCESS_H
#define CLD_CORE_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/core/error.h"

/* Bytes resident now, and the most ever (VmHWM); 0 where the system does not say. */
typedef struct cld_resident {
    size_t now, peak;
} cld_resident;
cld_resident cld_resident_memory(void);

double cld_clock(void); /* seconds, monotonic, from an arbitrary start */
/* Let so many seconds pass (at most 11 days), or less if a signal comes that this process handles. */
void cld_sleep(double seconds);

/* Bytes that this process may have resident: the machine's memory, or the least limit of the control groups that it is
 * in, and those above them. */
size_t cld_memory_limit(void);

/* Bytes that may still be mapped under `ulimit -v` and `ulimit -d`; SIZE_MAX without a limit. */
size_t cld_addresses_left(void);

/* The cores that this process may keep busy: those it may run on, or the control groups' share of processor time where
 * that is less, rounded up; at least 1. */
int cld_usable_cores(void);

/* From here on the control groups' share of processor time is that of `parts` processes like this one, of which this
 * is number `part`. */
void cld_share_quota(int part, int parts);
/* What that makes of so many cores to run on, under a quota; cld_usable_cores with its own. */
int cld_cores_under(int cores, double quota);

/* Of `total` things that are cut into parts, which differ by one at most, this one begins at *begin and ends before what
 * is returned. At least one: if there are more parts than things, several have the same. */
int cld_share_of(int total, int part, int parts, int *begin);

/* What the control groups alone say: SIZE_MAX and INFINITY if they set no limit. root: "", or a folder with the
 * files of another machine in proc/self and sys/fs/cgroup. */
typedef struct cld_control_groups {
    size_t memory; /* bytes */
    double cores;  /* the share of processor time */
} cld_control_groups;
cld_control_groups cld_control_group_limits(const char *root);

typedef struct cld_host {
    long pid;
    int cores;                /* cld_usable_cores */
    char name[128], cpu[128]; /* the machine's name, the processor's model */
} cld_host;
cld_host cld_host_facts(void);

/* Standard output's width; 80 if it is no terminal or does not say. */
int cld_terminal_columns(void);
/* Its height; 24 if it does not say. */
int cld_terminal_rows(void);
/* Standard output is a terminal that moves its cursor when it is told to: TERM is set, and neither "dumb" nor "unknown"
 * (an editor's shell window, a CI's pseudo-terminal). */
bool cld_terminal(void);
/* The terminal says, when it is asked, that it shows Sixel graphics. It is asked once, and has 0.2 s to answer; never if
 * standard input or output is no terminal. */
bool cld_terminal_has_sixel(void);

/* As sigaction with this handler, but an ignored signal stays ignored: false then. *before (may be NULL) is filled
 * in either way. */
bool cld_handle_signal(int number, void (*handler)(int), int flags, struct sigaction *before);

/* Calls nest: the last restore puts back what was there before the first catch. CLD_ALL_BUT_SIGINT leaves that one
 * to a session's prompt. */
typedef enum cld_caught { CLD_ALL_STOP_SIGNALS, CLD_ALL_BUT_SIGINT } cld_caught;
void cld_catch_signals(cld_caught which);
void cld_restore_signals(void);
/* The signal that came first since the outermost catch, or 0. */
int cld_interrupted(void);
const char *cld_signal_name(int number); /* "INT"; NULL if it is none of those that are caught */
/* Until they are caught, SIGINT and SIGTERM end the process at once, status 130 and 143: for a training that has
 * nothing to save yet. The others do so by themselves. */
void cld_leave_on_signals(void);
/* One that nobody handles does so as well, until no more; it can still be caught. */
void cld_leave_on(int number);
void cld_leave_no_more(int number);
/* What does that instead, if others are to be told first: called in the handler with the status. NULL: the default. */
void cld_leave_with(void (*leave)(int status));
/* What signals stand for, if it is not themselves: called in handlers. NULL: themselves. */
void cld_signals_mean(int (*meaning)(int number));

void cld_request_stop(bool wanted); /* from a signal handler, too */
bool cld_stop_requested(void);

#endif
