/* The terminal as lua/cld/repl.lua sees it: reading a line, the history, stoppable calls. lua/cld/repl.lua decides
 * what to do with a line. Lines are edited if there can be an editor (repl_edit.c).
 */
#include "bindings/interpreter.h"
#include "runtime/core/process.h"
#include "runtime/io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- without an editor --------------------------------------------------------------------------------- */

/* Print the prompt and wait until a terminal has something to read; false after Ctrl-C. Signals are blocked from
 * before the prompt until then: a signal between the prompt and the read would not end the read. */
static bool plain_wait(const char *prompt) {
    int number = 0;
    cldL_wait_begin();
    fputs(prompt, stdout);
    fflush(stdout);
    while (number != SIGINT && (number = cldL_wait_key()))
        if (number != SIGINT && number != SIGCONT && number != SIGWINCH) cldL_wait_obey(number);
    cldL_wait_end();
    return number != SIGINT;
}

static int plain_gave_up(lua_State *L) {
    putchar('\n');
    lua_pushboolean(L, 0);
    return 1;
}

/* As the editor's read, but at Ctrl-C the terminal itself drops the line; a read that has begun fails with EINTR. */
static int plain_read(lua_State *L) {
    char piece[512];
    luaL_Buffer text;
    bool any = false;
    const char *prompt = luaL_checkstring(L, 1);
    if (isatty(STDIN_FILENO)) {
        if (!plain_wait(prompt)) return plain_gave_up(L);
    } else {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    luaL_buffinit(L, &text);
    errno = 0;
    while (fgets(piece, sizeof piece, stdin)) {
        size_t length = strlen(piece), whole = length > 0 && piece[length - 1] == '\n';
        any = true;
        luaL_addlstring(&text, piece, length - whole);
        if (whole) break;
    }
    bool gave_up = ferror(stdin) && errno == EINTR;
    luaL_pushresult(&text);
    if (gave_up) {
        clearerr(stdin);
        return plain_gave_up(L);
    }
    if (!any) lua_pushnil(L);
    return 1;
}

static int plain_remember(lua_State *L) {
    (void)L;
    return 0;
}

/* ---- Ctrl-C outside of calls --------------------------------------------------------------------------- */

static pthread_t reader;

/* Its only purpose is to end a read. */
static void wake(int number) {
    if (!pthread_equal(pthread_self(), reader)) pthread_kill(reader, number);
}

static void survive_interrupts(void) {
    reader = pthread_self();
    cld_handle_signal(SIGINT, wake, 0, NULL);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* make_folder(path): makes it and its parents, for the user only; true if it exists now. */
static int make_folder(lua_State *L) {
    bool created;
    lua_pushboolean(L, cld_make_folder(luaL_checkstring(L, 1), 0700, &created) == CLD_OK);
    return 1;
}

/* make_file(path): a plain file for the user only; keeps any content. true if it can be read and written.
 * Never waits, as opening a pipe would. */
static int make_file(lua_State *L) {
    struct stat status;
    int fd = open(luaL_checkstring(L, 1), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) return 0;
    bool ok = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && fchmod(fd, 0600) == 0;
    close(fd);
    lua_pushboolean(L, ok);
    return 1;
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

/* call(f, ...) -> true, results; false, message with traceback. Ctrl-C stops it. */
static int stoppable_call(lua_State *L) {
    luaL_checkany(L, 1);
    bool ok = cldL_call(L, lua_gettop(L) - 1, LUA_MULTRET) == LUA_OK;
    lua_pushboolean(L, ok);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* terminal(complete) -> {read, remember, call, make_folder, make_file, editing}. */
int cldL_open_terminal(lua_State *L) {
    static const luaL_Reg functions[] = {{"read", plain_read},     {"remember", plain_remember},
                                         {"call", stoppable_call}, {"make_folder", make_folder},
                                         {"make_file", make_file}, {NULL, NULL}};
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    cldL_set_session(true);
    if (isatty(STDIN_FILENO)) {
        survive_interrupts();
        setvbuf(stdin, NULL, _IONBF, 0); /* plain_wait sees only what the terminal has, not a buffer */
    }
    luaL_newlib(L, functions);
    bool editing = cldL_open_editor(L);
    lua_settop(L, 2);
    lua_pushboolean(L, editing);
    lua_setfield(L, 2, "editing");
    return 1;
}
