/* The board: a page of memory that `cldlua --ranks` shares with the ranks that its mpirun starts, for what mpirun does
 * not carry: which signal the user has sent, and with which status a job ends.
 *
 * mpirun ends a job at the first exit status but 0, and takes seconds for that. A rank whose watch has the job's end in
 * hand writes its status here and tells mpirun 0 (cld_board_hand_over); any other status is a failure as ever.
 *
 * Without a board (any other launcher, a rank on another machine) nothing here does anything.
 */
#ifndef CLD_DIST_BOARD_H
#define CLD_DIST_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The variable by which the ranks find it, which `cldlua -E` must keep. */
#define CLD_BOARD "CLD_BOARD"

typedef struct cld_board {
    uint64_t mark;      /* that this is one */
    _Atomic int wish;   /* the signal that the launcher was sent first, and has handed on as SIGUSR1 */
    _Atomic int status; /* the first that a rank has handed over */
    _Atomic int joined; /* how many ranks have joined the job */
    _Atomic int told;   /* a rank has said why the job ends */
} cld_board;

/* The launcher's: a new one, which the processes that are started from here find. NULL if the system gives none. */
cld_board *cld_board_new(void);

/* A rank's: takes the board out of the environment. Before threads. */
void cld_board_find(void);
bool cld_board_found(void);
void cld_board_join(void);
void cld_board_tell(void);
/* What a signal means: SIGUSR1 may stand for another. From a signal handler, too. */
int cld_board_signal(int number);
/* The status with which this process, about to end with this one, is to leave towards its launcher. */
int cld_board_hand_over(int status);

#endif
