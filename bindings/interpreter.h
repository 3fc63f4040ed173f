/* The interpreter's own parts: main.c (command line), repl_call.c (calls that Ctrl-C can stop), repl.c (the
 * terminal). */
#ifndef CLD_BINDINGS_INTERPRETER_H
#define CLD_BINDINGS_INTERPRETER_H

#include "bindings/bindings.h"

/* lua_pcall with a traceback in the message of an error; Ctrl-C raises "interrupted!" in the running
 * function. */
int cldL_call(lua_State *L, int arguments, int results);
/* True where the last cldL_call ended by Ctrl-C. */
bool cldL_interrupted(void);
/* In a session, Ctrl-C ends what runs and never the process (unless a C function ignores it three times). */
void cldL_set_session(bool session);

/* Lua function: takes the completer, returns the table through which lua/cld/repl.lua talks to the terminal.
 */
int cldL_open_terminal(lua_State *L);

#endif
