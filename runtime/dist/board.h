/* The board: a page of memory that `cldlua --ranks` shares with the ranks that its mpirun starts, for what mpirun does
 * not pass on: which signal the user has sent, and with which status a job ends.
 *
 * mpirun ends a job at the first nonzero exit status, and takes seconds for that. If the watch is already ending the
 * job, the rank writes its status here and exits with 0 for mpirun (cld_board_hand_over). Any other status is a
 * failure, as usual.
 *
 * Without a board (any other launcher, a rank on another machine) nothing here does anything.
 */
#ifndef CLD_DIST_BOARD_H
#define CLD_DIST_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The variable by which the ranks find the board, which `cldlua -E` must keep. */
#define CLD_BOARD "CLD_BOARD"

typedef struct cld_board {
    uint64_t mark;      /* identifies a board */
    _Atomic int wish;   /* the first signal that the launcher was sent, which it passed on as SIGUSR1 */
    _Atomic int status; /* the first one that a rank has written */
    _Atomic int joined; /* how many ranks have joined the job */
    _Atomic int told;   /* a rank has printed why the job ends */
} cld_board;

/* For the launcher: a new board, which processes started from here find. NULL if the system gives none. */
cld_board *cld_board_new(void);

/* For a rank: takes the board out of the environment. Before threads start. */
void cld_board_find(void);
bool cld_board_found(void);
void cld_board_join(void);
void cld_board_tell(void);
/* What a signal means: SIGUSR1 may stand for another one. Also from a signal handler. */
int cld_board_signal(int number);
/* This process is about to end with this status. Returns the status with which it should exit, for its launcher. */
int cld_board_hand_over(int status);

#endif
