/* The watch over a job's processes: a thread per rank that keeps a TCP connection of its own, outside MPI, so that a rank
 * which dies, hangs or is cut off ends the job within seconds, and one line says which rank it was and why.
 *
 * All ranks are connected to rank 0, the centre, and send it a beat every second. Whoever notices something reports it to
 * the centre, which prints the line and tells all; then every rank leaves by _exit, status 1, whatever its other
 * threads are doing. If the centre is lost, the lowest rank that still answers takes its place (README.md says how).
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

/* Where a rank's watch listens: plain bytes of a fixed size, to be sent as they are. */
enum { CLD_WATCH_ADDRESSES = 8 };
typedef struct cld_watch_address {
    uint64_t key;                          /* random; rank 0's is the job's, without which nobody gets in */
    char host[64], machine[128];           /* the name; what tells whether two ranks share a loopback */
    char numbers[CLD_WATCH_ADDRESSES][46]; /* numeric IPv4 and IPv6 addresses, "" after the last */
    uint16_t port;
} cld_watch_address;

typedef struct cld_watch_settings {
    int rank, world;
    const cld_watch_address *addresses; /* of all ranks; copied */
    double timeout;                     /* seconds that a rank may keep the others waiting; 0: any time */
} cld_watch_settings;

/* Opens this rank's socket and says where it is. */
cld_status cld_watch_listen(cld_watch_address *mine);
/* Starts the thread, and waits until it has reached rank 0. Until cld_watch_end a SIGTERM that nobody handles, or that
 * cld_leave_on_signals does, ends the process half a second later: if a launcher sends it because a rank is gone, that
 * is to be said first. */
cld_status cld_watch_start(const cld_watch_settings *settings);

/* Another timeout, from here on: the same on all ranks. */
void cld_watch_set_timeout(double seconds);
/* The one that holds; 0: any time, or no watch. */
double cld_watch_timeout(void);

/* This rank has come to its next collective: called as often, and in the same order, on all ranks. */
void cld_watch_begun(void);
/* All that it has begun are complete. A rank that has begun more waits; a main thread that works in between must say so,
 * or have begun nothing. */
void cld_watch_completed(void);

/* This rank ends with an error: the job does. Returns whether this rank is to print it: not if the line of the job is
 * printed elsewhere, or is about something else that happened before. Usually it does not return then, because the
 * process is over. */
bool cld_watch_fail(const char *message);

/* This rank is through, and waits until all are. One that comes here while others wait in a collective has ended too early,
 * which ends the job. */
void cld_watch_end(void);
/* The same for so long at most: false if others are not through by then, and this rank is a rank like any other again. */
bool cld_watch_end_within(double seconds);

#endif
