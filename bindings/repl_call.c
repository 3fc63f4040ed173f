/* Calls that a person can stop: a traceback on errors, Ctrl-C as a Lua error.
 *
 * A signal handler may do almost nothing, but lua_sethook is safe in one: it makes the interpreter call
 * stop() before its next instruction. A C function that is running (a long matrix product) ends first.
 */
#include "bindings/interpreter.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static lua_State *running;
static pthread_t interpreter;
static bool session;
static volatile sig_atomic_t presses; /* of Ctrl-C during this call, until one was heard */
static volatile sig_atomic_t interrupted;

static void stop(lua_State *L, lua_Debug *ar) {
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    presses = 0;
    interrupted = 1;
    luaL_error(L, "interrupted!");
}

static void leave(int signal_number) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void on_interrupt(int signal_number) {
    if (!pthread_equal(pthread_self(), interpreter)) { /* a worker thread got it */
        pthread_kill(interpreter, signal_number);
        return;
    }
    static const char notice[] = "\n(still running; once more leaves cldlua)\n";
    presses++;
    if (presses > (session ? 2 : 1))
        leave(signal_number);
    else if (presses == 2 && write(STDERR_FILENO, notice, sizeof notice - 1) < 0)
        return;
    lua_sethook(running, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int add_traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
    if (!message) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
        message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, message, 1);
    return 1;
}

int cldL_call(lua_State *L, int arguments, int results) {
    int base = lua_gettop(L) - arguments; /* of the function */
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    sigemptyset(&action.sa_mask);
    running = L;
    interpreter = pthread_self();
    presses = interrupted = 0;
    sigaction(SIGINT, &action, &before);
    int status = lua_pcall(L, arguments, results, base);
    sigaction(SIGINT, &before, NULL);
    lua_sethook(L, NULL, 0, 0); /* pressed too late to be heard */
    lua_remove(L, base);
    return status;
}

bool cldL_interrupted(void) { return interrupted; }

void cldL_set_session(bool is_session) { session = is_session; }
