/* The interpreter's own parts: main.c (command line), launch.c and relay.c (--ranks), waiting.c (OpenMP's threads),
 * repl_call.c and repl_coroutine.c (calls that Ctrl-C can stop), repl.c (the terminal), repl_edit.c and repl_wait.c
 * (its edited line). */
#ifndef CLD_BINDINGS_INTERPRETER_H
#define CLD_BINDINGS_INTERPRETER_H

#include <limits.h>
#include <signal.h>
#include <time.h>

#include "bindings/bindings.h"

/* This executable's path; false if the system does not tell it. */
bool cldL_find_self(char path[PATH_MAX]);

/* Starts `ranks` ranks by mpirun, with this command line, whose script is at argv[script]. Returns the exit status
 * when they have ended, or after a message; CLD_NOT_LAUNCHED if one rank is wanted, which is this process. shared:
 * all ranks would need the terminal or the standard input. */
enum { CLD_NOT_LAUNCHED = -1 };
#define CLDL_NO_COMMON_INPUT "needs a script or -e, without -i: ranks have no terminal and no input in common"
int cldL_launch_ranks(const char *ranks, int argc, char **argv, int script, bool shared);

/* relay.c: passes on a child's standard output and error. */
typedef struct cldL_way {
    int to, from,
        into; /* this process's descriptor; the pipe's ends: the one read here, -1 at its end, and the child's */
    bool gone; /* the reader is gone */
} cldL_way;
typedef struct cldL_relay {
    cldL_way ways[2];
    int count;
} cldL_relay;
/* Before the fork; false with errno. */
bool cldL_relay_open(cldL_relay *r);
/* In the child: its output goes into the pipes. */
bool cldL_relay_enter(const cldL_relay *r);
/* In the parent, after the fork; at the end. */
void cldL_relay_begin(cldL_relay *r);
void cldL_relay_end(cldL_relay *r);
/* Waits, under the mask, for output to pass on, for a signal, or until the time is over (NULL: no limit). Returns
 * whether there was output. *broken: a reader has closed its pipe. SIGPIPE must be caught, or it ends this. */
bool cldL_relay_wait(cldL_relay *r, const struct timespec *longest, const sigset_t *mask, bool *broken);

/* Makes a process that a launcher has started a rank; any other stays as it is. False with an error in the record. */
bool cldL_join_job(void);
/* Whether this process should print that error: one that all ranks have is printed once on each machine. */
bool cldL_tells_of_job(void);

/* Removes from the environment what waiting.c has put there, so that programs started from here do not see it. */
void cldL_forget_restart(void);

/* lua_pcall with a traceback in the message of an error; Ctrl-C raises "interrupted!" in the running function. */
int cldL_call(lua_State *L, int arguments, int results);
/* True if Ctrl-C was pressed during the last cldL_call. */
bool cldL_interrupted(void);
/* In a session, Ctrl-C stops what runs and never ends the process; elsewhere a second one ends it at once. */
void cldL_set_session(bool session);

/* Notes that `to` runs from now on; returns what ran before. */
lua_State *cldL_switch(lua_State *to);
/* Replaces the functions of the coroutine library that resume one. */
void cldL_track_coroutines(lua_State *L);

/* Lua function: takes the completer, returns the table through which lua/cld/repl.lua talks to the terminal. */
int cldL_open_terminal(lua_State *L);

/* Puts read and remember into the table at 2; false if there can be no editor. The completer is at 1. */
bool cldL_open_editor(lua_State *L);

/* Between begin and end, wait_key returns 0 when a key can be read, or the number of a signal that came first:
 * Ctrl-C, stop, continue, resize, or one that ends a process. wait_obey lets the signal do what it does by default,
 * and returns if the process goes on. */
void cldL_wait_begin(void);
int cldL_wait_key(void);
void cldL_wait_obey(int number);
void cldL_wait_end(void);

#endif
