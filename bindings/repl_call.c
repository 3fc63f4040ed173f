/* Calls that a person can stop: a traceback on errors, Ctrl-C as a Lua error.
 *
 * A signal handler may do almost nothing, but lua_sethook is safe in one: it makes the interpreter call
 * stop() before its next instruction. The error is raised again and again until the call returns, so that a
 * loop with a pcall ends too; but the second time only after CLEANUP instructions, so that what must be closed
 * on the way out can be.
 *
 * A hook belongs to one coroutine, so repl_coroutine.c says which one runs. A C function that is running (a long
 * matrix product) ends first, unless it asks cld_stop_requested().
 */
#include "bindings/interpreter.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/process.h"

enum { CLEANUP = 10000 };

static lua_State *running; /* the coroutine that executes */
static pthread_t interpreter;
static bool session;
static volatile sig_atomic_t presses; /* of Ctrl-C during this call */
static int raised;                    /* how often they became an error */
static bool interrupted;

static void stop(lua_State *L, lua_Debug *ar);

/* The error comes at once, but the second time only after CLEANUP instructions. */
static void arm(lua_State *L) { lua_sethook(L, stop, LUA_MASKCOUNT, raised == 1 ? CLEANUP : 1); }

static void stop(lua_State *L, lua_Debug *ar) {
    if (presses == 0) { /* this coroutine outlived the stopped call */
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    raised++;
    arm(L);
    lua_getinfo(L, "S", ar);
    luaL_where(L, ar->what[0] == 'C' ? 1 : 0);
    lua_pushliteral(L, "interrupted!");
    lua_concat(L, 2);
    lua_error(L);
}

lua_State *cldL_switch(lua_State *to) {
    lua_State *from = running;
    running = to;
    bool counts_down = raised == 1 && lua_gethook(to) == stop;
    if (presses > 0 && !counts_down) arm(to);
    return from;
}

static void leave(int signal_number) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void on_interrupt(int signal_number) {
    static const char notice[] =
        "\n(still running: this call cannot be stopped before it ends; Ctrl-\\ leaves "
        "cldlua)\n";
    if (!pthread_equal(pthread_self(), interpreter)) { /* a worker thread got it */
        pthread_kill(interpreter, signal_number);
        return;
    }
    presses++;
    cld_request_stop(true);
    if (presses > 1 && !session) leave(signal_number);
    if (presses == 2 && write(STDERR_FILENO, notice, sizeof notice - 1) < 0) return;
    lua_sethook(running, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* Pushes the text that lua/cld/uncaught.lua makes of the error at 1; false if cld is not loaded or it fails. Ctrl-C waits
 * for it, because it is short. */
static bool describe(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, "cld.uncaught") != LUA_TFUNCTION) return false;
    bool stops = lua_gethook(L) == stop;
    if (stops) lua_sethook(L, NULL, 0, 0);
    lua_pushvalue(L, 1);
    bool ok = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING;
    if (stops) arm(L);
    return ok;
}

/* Whether too much memory was asked for. It needs no traceback, since it is no mistake of the program. */
static bool is_shortage(const char *message) {
    return message && strstr(message, ": out of memory: wanted ") != NULL;
}

static int add_traceback(lua_State *L) {
    const char *message = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
    if (is_shortage(message)) return 1;
    if (describe(L)) return 1;
    lua_settop(L, 1);
    message = lua_tostring(L, 1);
    if (!message) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
        message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, message, 1);
    return 1;
}

/* Presses between calls do not count. */
static void forget_presses(lua_State *L) {
    presses = raised = 0;
    cld_request_stop(false);
    if (lua_gethook(L) == stop) lua_sethook(L, NULL, 0, 0);
}

int cldL_call(lua_State *L, int arguments, int results) {
    int base = lua_gettop(L) - arguments; /* of the function */
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    struct sigaction before;
    running = L;
    interpreter = pthread_self();
    forget_presses(L);
    cld_handle_signal(SIGINT, on_interrupt, 0, &before);
    int status = lua_pcall(L, arguments, results, base);
    sigaction(SIGINT, &before, NULL);
    interrupted = presses > 0;
    forget_presses(L);
    lua_remove(L, base);
    return status;
}

bool cldL_interrupted(void) { return interrupted; }

void cldL_set_session(bool is_session) { session = is_session; }
