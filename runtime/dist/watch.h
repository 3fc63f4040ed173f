/* The watch over a job's processes: a thread per rank with its own TCP connection, outside MPI. If a rank dies, hangs
 * or is cut off, the job ends within seconds, and one line says which rank it was and why.
 *
 * All ranks are connected to rank 0, the centre, and send it a heartbeat every second. A rank that notices something
 * reports it to the centre, which prints the line and tells all. Then every rank leaves by _exit with status 1,
 * whatever its other threads are doing. If the centre is lost, the lowest rank that still answers takes its place
 * (README.md says how).
 *
 *     cld_watch_listen(&mine);            then the ranks exchange their addresses by MPI
 *     cld_watch_start(&settings);
 *     ... cld_watch_begun(); MPI_Allreduce(...); cld_watch_completed(); ...
 *     cld_watch_end();                    before MPI_Finalize
 *
 * With one rank, and before start, nothing here does anything. */
#ifndef CLD_DIST_WATCH_H
#define CLD_DIST_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

/* Where a rank's watch listens: plain data of a fixed size, sent as it is. */
enum { CLD_WATCH_ADDRESSES = 8 };
typedef struct cld_watch_address {
    uint64_t key;                          /* random; rank 0's is the job's, without which nobody gets in */
    char host[64], machine[128];           /* the name; an id: the same if two ranks share a loopback */
    char numbers[CLD_WATCH_ADDRESSES][46]; /* numeric IPv4 and IPv6 addresses, "" after the last */
    uint16_t port;
} cld_watch_address;

typedef struct cld_watch_settings {
    int rank, world;
    const cld_watch_address *addresses; /* of all ranks; copied */
    double timeout;                     /* seconds that a rank may keep the others waiting; 0: unlimited */
} cld_watch_settings;

/* Opens this rank's socket and returns its address. */
cld_status cld_watch_listen(cld_watch_address *mine);
/* Starts the thread, and waits until it has reached rank 0. Until cld_watch_end a SIGTERM that nobody handles, or that
 * cld_leave_on_signals handles, ends the process half a second later: if a launcher sends it because a rank is gone,
 * that must be reported first. */
cld_status cld_watch_start(const cld_watch_settings *settings);

/* Sets another timeout, the same on all ranks. */
void cld_watch_set_timeout(double seconds);
/* The current timeout; 0: unlimited, or no watch. */
double cld_watch_timeout(void);

/* This rank has come to its next collective: called equally often, and in the same order, on all ranks. */
void cld_watch_begun(void);
/* All collectives that it has begun are complete. A rank that has begun more is considered waiting, so a main thread
 * that computes in between must call this, or have begun nothing. */
void cld_watch_completed(void);

/* This rank ends with an error, and so does the job. Returns whether this rank should print the error: not if the job's
 * line is printed elsewhere, or is about something that happened earlier. In that case it usually does not return,
 * because the process ends. */
bool cld_watch_fail(const char *message);

/* This rank is finished, and waits until all are. If it comes here while others wait in a collective, it has ended too
 * early, which ends the job. */
void cld_watch_end(void);
/* The same, with a time limit: returns false if others are not finished by then, and this rank is an ordinary rank
 * again. */
bool cld_watch_end_within(double seconds);

#endif
