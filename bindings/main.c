/* cldlua: the command line. It takes what `lua` takes, in the same words (see usage), and finds cld's Lua files from
 * the path of the executable: ../lua in a source tree, ../share/lua/5.4 if it is installed.
 *
 * Everything runs inside one protected call, so that running out of memory at start-up gives a message too.
 */
#define _GNU_SOURCE
#include "bindings/interpreter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/dist/board.h"
#include "runtime/dist/dist.h"
#include "runtime/dist/launcher.h"
#include "runtime/dist/watch.h"

#define PROGRAM "cldlua"

static const char usage[] = "usage: " PROGRAM " [options] [script [args]]\n"
                            "  -e stat       execute string 'stat'\n"
                            "  -i            enter interactive mode after executing 'script'\n"
                            "  -l mod        require library 'mod' into global 'mod'\n"
                            "  -l g=mod      require library 'mod' into global 'g'\n"
                            "  -v            show version information\n"
                            "  --version     show it, and what this was built with\n"
                            "  -E            ignore environment variables (LUA_*, CLD_*)\n"
                            "  -W            turn warnings on\n"
                            "  --ranks N     run as N processes on this machine, which share the work\n"
                            "  -h, --help    show this text\n"
                            "  --            stop handling options\n"
                            "  -             stop handling options and execute stdin\n";

static const char version[] =
    "local v = require 'cld.core'.system.versions()\n"
    "print(('" PROGRAM " %s (%s) on %s, %s'):format(v.cldlua, v.commit, v.lua, v.cpu_library))";

static const char details[] = "for _, line in ipairs(require 'cld.version'()) do print(line) end";

typedef struct command_line {
    int argc, script; /* script: its index in argv, argc if there is none */
    char **argv;
    bool interactive, version, details, execute, ignore_environment, help, lacks;
    const char *bad;   /* an option that is unknown or lacks its argument */
    const char *ranks; /* as written; NULL: not given */
} command_line;

static command_line parse(int argc, char **argv) {
    command_line c = {.argc = argc, .argv = argv, .script = argc};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (a[0] != '-' || a[1] == 0) {
            c.script = i;
            return c;
        }
        if (!strcmp(a, "--")) {
            c.script = i + 1;
            return c;
        }
        if (!strcmp(a, "-h") || !strcmp(a, "--help"))
            c.help = true;
        else if (!strcmp(a, "-i"))
            c.interactive = c.version = true;
        else if (!strcmp(a, "-v"))
            c.version = true;
        else if (!strcmp(a, "--version"))
            c.version = c.details = true;
        else if (!strcmp(a, "-E"))
            c.ignore_environment = true;
        else if (!strcmp(a, "-W"))
            continue;
        else if (!strncmp(a, "--ranks=", 8))
            c.ranks = a + 8;
        else if (!strcmp(a, "--ranks"))
            c.lacks = !(c.ranks = argv[++i]);
        else if (a[1] == 'e' || a[1] == 'l') {
            c.execute |= a[1] == 'e';
            c.lacks = a[2] == 0 && (++i >= argc || argv[i][0] == '-');
        } else
            c.bad = a;
        if (c.lacks) c.bad = a;
        if (c.bad) return c;
    }
    return c;
}

/* ---- running things: all return a Lua status, after printing any error --------------------------------- */

/* Makes the message printable, since it may quote a file. */
static void complain(const char *message, size_t length) {
    size_t size = cld_printable(NULL, 0, message, length, CLD_LINES) + 1;
    char *text = malloc(size);
    if (text) cld_printable(text, size, message, length, CLD_LINES);
    fflush(stdout);
    if (cld_watch_fail(text ? text : "out of memory")) { /* an error of all ranks is printed once */
        cld_board_tell();
        fprintf(stderr, PROGRAM ": %s\n", text ? text : "not enough memory for the error's message");
    }
    free(text);
}

static int report(lua_State *L, int status) {
    static const char none[] = "(error message not a string)";
    size_t length;
    if (status == LUA_OK) return status;
    const char *message = lua_tolstring(L, -1, &length);
    complain(message ? message : none, message ? length : sizeof none - 1);
    lua_pop(L, 1);
    return status;
}

static int run_chunk(lua_State *L, int status) {
    if (status == LUA_OK) status = cldL_call(L, 0, 0);
    return report(L, status);
}

static int run_string(lua_State *L, const char *text, const char *name) {
    return run_chunk(L, luaL_loadbuffer(L, text, strlen(text), name));
}

static int run_init(lua_State *L) {
    const char *name = "=LUA_INIT_5_4", *init = getenv(name + 1);
    if (!init) init = getenv((name = "=LUA_INIT") + 1);
    if (!init) return LUA_OK;
    return init[0] == '@' ? run_chunk(L, luaL_loadfile(L, init + 1)) : run_string(L, init, name);
}

/* -l [global=]module; a version after '-' is not part of the global's name. */
static int require_library(lua_State *L, const char *text) {
    const char *equals = strchr(text, '='), *module = equals ? equals + 1 : text;
    size_t length = equals ? (size_t)(equals - text) : strcspn(text, "-");
    lua_pushlstring(L, text, length);
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    int status = cldL_call(L, 1, 1);
    if (status != LUA_OK) return report(L, status);
    lua_pushglobaltable(L);
    lua_insert(L, -3);
    lua_settable(L, -3);
    lua_pop(L, 1);
    return LUA_OK;
}

static int run_options(lua_State *L, const command_line *c) {
    for (int i = 1; i < c->script && i < c->argc && strcmp(c->argv[i], "--") != 0; i++) {
        const char *a = c->argv[i];
        if (!strcmp(a, "-W")) lua_warning(L, "@on", 0);
        if (a[1] != 'e' && a[1] != 'l') continue;
        const char *value = a[2] ? a + 2 : c->argv[++i];
        int status = a[1] == 'e' ? run_string(L, value, "=(command line)") : require_library(L, value);
        if (status != LUA_OK) return status;
    }
    return LUA_OK;
}

/* Whether the script is "-", standard input. Not if "--" has ended the options. */
static bool is_stdin(const command_line *c) {
    return !strcmp(c->argv[c->script], "-") && strcmp(c->argv[c->script - 1], "--") != 0;
}

/* The session is lua/cld/repl.lua, which is loaded before user code can remove what it needs. It is in package.loaded
 * only once it runs: cld.run checks that. LOAD_SCRIPT is the function that loads a script so that the session can use
 * its local variables. */
#define SESSION     "cld.repl"
#define LOAD_SCRIPT "cld.repl.locals"

/* Pushes the script's function, or the message. */
static int load_script(lua_State *L, const char *file, bool session) {
    if (!session || !file) return luaL_loadfile(L, file);
    lua_getfield(L, LUA_REGISTRYINDEX, LOAD_SCRIPT);
    lua_pushstring(L, file);
    int status = lua_pcall(L, 1, 2, 0);
    if (status != LUA_OK) return status;
    bool loaded = !lua_isnil(L, -2);
    if (loaded)
        lua_pop(L, 1);
    else
        lua_remove(L, -2);
    return loaded ? LUA_OK : LUA_ERRSYNTAX;
}

static int run_script(lua_State *L, const command_line *c, bool session) {
    const char *file = c->argv[c->script];
    if (is_stdin(c)) file = NULL;
    int status = load_script(L, file, session);
    if (status != LUA_OK) return report(L, status);
    int arguments = c->argc - c->script - 1;
    luaL_checkstack(L, arguments + 2, "too many arguments to script");
    for (int i = 0; i < arguments; i++) lua_pushstring(L, c->argv[c->script + 1 + i]);
    return report(L, cldL_call(L, arguments, 0));
}

static bool load_session(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, SESSION);
    if (report(L, cldL_call(L, 1, 1)) != LUA_OK) return false;
    lua_setfield(L, LUA_REGISTRYINDEX, SESSION);
    lua_getglobal(L, "require");
    lua_pushliteral(L, LOAD_SCRIPT);
    if (report(L, cldL_call(L, 1, 1)) != LUA_OK) return false;
    lua_getfield(L, -1, "load_file");
    lua_setfield(L, LUA_REGISTRYINDEX, LOAD_SCRIPT);
    lua_pop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L);
    lua_setfield(L, -2, SESSION);
    lua_pop(L, 1);
    return true;
}

static int run_session(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, LUA_REGISTRYINDEX, SESSION);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, SESSION);
    lua_pushcfunction(L, cldL_open_terminal);
    return report(L, lua_pcall(L, 1, 0, 0)); /* the calls that it makes can be stopped */
}

/* ---- the state ----------------------------------------------------------------------------------------- */

#define INSTALLED "share/lua/5.4" /* where a stock Lua finds them too */

static int message_of(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

/* Loads the module if its file does exist: Lua reports a file that it cannot open, for lack of memory or descriptors,
 * as missing. */
static bool load_unopened(lua_State *L, const char *name, const char *folder) {
    static const char *const patterns[] = {"%s/lua/%s.lua", "%s/lua/%s/init.lua", "%s/" INSTALLED "/%s.lua",
                                           "%s/" INSTALLED "/%s/init.lua"};
    const char *path = luaL_gsub(L, name, ".", "/");
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        const char *file = lua_pushfstring(L, patterns[i], folder, path);
        if (access(file, R_OK) != 0) continue;
        if (luaL_loadfile(L, file) != LUA_OK) lua_error(L);
        lua_pushstring(L, file);
        return true;
    }
    return false;
}

/* The last of package.searchers: no other has found cld. The error is a table with __tostring, which is
 * printed without a traceback. Upvalue 1: the folder above the executable's. */
static int not_found(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *folder = lua_tostring(L, lua_upvalueindex(1));
    if (strcmp(name, "cld") != 0 && strncmp(name, "cld.", 4) != 0) return 0;
    if (load_unopened(L, name, folder)) return 2;
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushfstring(L,
                    "the Lua file of '%s' is neither in %s/lua nor in %s/" INSTALLED
                    " nor on LUA_PATH; `make install` puts them where " PROGRAM " finds them",
                    name, folder, folder);
    lua_pushcclosure(L, message_of, 1);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
    return lua_error(L);
}

/* This executable's path: /proc/self/exe, unless /proc is not mounted, or the program runs as `ld.so cldlua` and it
 * is ld.so's path. */
bool cldL_find_self(char path[PATH_MAX]) {
    Dl_info self;
    bool is_linker = getauxval(AT_BASE) == 0;
    ssize_t length = is_linker ? 0 : readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length > 0) return path[length] = 0, true;
    if (!is_linker) return realpath((const char *)getauxval(AT_EXECFN), path) != NULL;
    return dladdr((const void *)cldL_find_self, &self) && self.dli_fname && realpath(self.dli_fname, path);
}

/* The folder above the executable's; false if the system does not tell it. */
static bool find_home(char folder[PATH_MAX]) {
    if (!cldL_find_self(folder)) return false;
    for (int up = 0; up < 2; up++) { /* the executable's name, then its folder */
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
    }
    return true;
}

/* Adds the files that `make` writes, in lua/ beside an executable that is not installed, to the end of package.path.
 * package is the table at 1. */
static void add_built_path(lua_State *L) {
    char self[PATH_MAX];
    char *slash = cldL_find_self(self) ? strrchr(self, '/') : NULL;
    if (!slash) return;
    *slash = 0;
    if (access(lua_pushfstring(L, "%s/lua/cld/help/text.lua", self), R_OK) != 0) return;
    lua_getfield(L, 1, "path");
    lua_pushfstring(L, "%s;%s/lua/?.lua", lua_tostring(L, -1), self);
    lua_setfield(L, 1, "path");
}

/* Put the folder of cld's Lua files in front of package.path. */
static void set_path(lua_State *L) {
    static const char *const beside[] = {"lua", INSTALLED};
    char home[PATH_MAX];
    if (!find_home(home)) return;
    lua_getglobal(L, "package");
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        const char *folder = lua_pushfstring(L, "%s/%s", home, beside[i]);
        bool found = access(lua_pushfstring(L, "%s/cld/init.lua", folder), R_OK) == 0;
        if (found) {
            lua_getfield(L, 1, "path");
            lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", folder, folder, lua_tostring(L, -1));
            lua_setfield(L, 1, "path");
            break;
        }
    }
    add_built_path(L);
    lua_getfield(L, 1, "searchers");
    lua_pushstring(L, home);
    lua_pushcclosure(L, not_found, 1);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_settop(L, 0);
}

static void set_arg(lua_State *L, const command_line *c) {
    int zero = c->script < c->argc ? c->script : 0;
    lua_createtable(L, c->argc - zero, zero + 1);
    for (int i = 0; i < c->argc; i++) {
        lua_pushstring(L, c->argv[i]);
        lua_rawseti(L, -2, i - zero);
    }
    lua_setglobal(L, "arg");
}

static void open_libraries(lua_State *L, const command_line *c) {
    if (c->ignore_environment) {
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    }
    luaL_openlibs(L);
    cldL_track_coroutines(L);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_cld_core);
    lua_setfield(L, -2, "cld.core");
    lua_settop(L, 0);
    set_path(L);
    set_arg(L, c);
}

/* Everything, in the order of `lua`. Returns true if all went well. */
static int protected_main(lua_State *L) {
    const command_line *c = lua_touserdata(L, 1);
    lua_settop(L, 0);
    luaL_checkversion(L);
    open_libraries(L, c);
    bool script = c->script < c->argc, terminal = isatty(STDIN_FILENO);
    bool session = c->interactive || (!script && !c->execute && !c->version && terminal);
    if (session && !load_session(L)) return 0;
    if ((c->version || session) && run_string(L, version, "=version") != LUA_OK) return 0;
    if (c->details && run_string(L, details, "=version") != LUA_OK) return 0;
    bool ok = (c->ignore_environment || run_init(L) == LUA_OK) && run_options(L, c) == LUA_OK &&
              (!script || run_script(L, c, session) == LUA_OK);
    if (ok && session)
        ok = run_session(L) == LUA_OK;
    else if (ok && !script && !c->execute && !c->version)
        ok = run_chunk(L, luaL_loadfile(L, NULL)) == LUA_OK;
    lua_pushboolean(L, ok);
    return 1;
}

/* A handler, not SIG_IGN: that would be inherited by the programs that a script starts. */
static void do_nothing(int number) { (void)number; }

/* If descriptors 0 to 2 are closed (a daemon, cron: `<&- >&-`), the first files that are opened would get them, and
 * what is printed would go into those files. */
static bool open_standard_streams(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return false;
    return true;
}

/* For -E: unsets our variables, except those that are not settings. Lua skips its own (LUA_NOENV). */
static void ignore_own_variables(void) {
    for (char **entry = environ; *entry;) {
        const char *end = strchr(*entry, '=');
        bool ours = strncmp(*entry, "CLD_", 4) == 0 &&
                    strncmp(*entry, CLD_RANK_TAKEN "=", sizeof CLD_RANK_TAKEN) != 0 &&
                    strncmp(*entry, CLD_BOARD "=", sizeof CLD_BOARD) != 0;
        char *name = end && ours ? strndup(*entry, (size_t)(end - *entry)) : NULL;
        if (!name || unsetenv(name) != 0) entry++; /* unset: the next one has moved here */
        free(name);
    }
}

/* Whether the command line needs typed input, which only one of several ranks would get. */
static bool needs_input(const command_line *c) {
    bool script = c->script < c->argc;
    return c->interactive || (script ? is_stdin(c) : !c->execute && !c->version);
}

static int launch(const command_line *c) {
    return cldL_launch_ranks(c->ranks, c->argc, c->argv, c->script, needs_input(c));
}

int main(int argc, char **argv) {
    if (!open_standard_streams()) return perror(PROGRAM ": /dev/null"), EXIT_FAILURE;
    command_line c = parse(argc, argv);
    cldL_forget_restart();
    if (c.ignore_environment) ignore_own_variables();
    if (c.bad) {
        char option[256];
        cld_printable(option, sizeof option, c.bad, strlen(c.bad), CLD_ONE_LINE);
        fprintf(stderr, PROGRAM ": %s '%s'\n%s", c.lacks ? "argument missing after" : "unrecognized option",
                option, usage);
        return EXIT_FAILURE;
    }
    if (c.help) return fputs(usage, stdout) < 0;
    if (c.ranks) {
        int status = launch(&c);
        if (status != CLD_NOT_LAUNCHED) return status;
    }
    if (!cldL_join_job()) {
        if (cldL_tells_of_job()) complain(cld_error_message(), strlen(cld_error_message()));
        return cld_dist_fails_alike() ? cld_board_hand_over(EXIT_FAILURE) : EXIT_FAILURE;
    }
    if (needs_input(&c) && !cld_dist_alone()) {
        char text[256];
        snprintf(text, sizeof text, "a job of %d ranks " CLDL_NO_COMMON_INPUT, cld_dist_ranks().world);
        complain(text, strlen(text));
        return EXIT_FAILURE;
    }
    /* If a file grows beyond the user's limit, its write fails, and the process goes on. */
    cld_handle_signal(SIGXFSZ, do_nothing, SA_RESTART, NULL);
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs(PROGRAM ": not enough memory for a Lua state\n", stderr);
        return EXIT_FAILURE;
    }
    lua_pushcfunction(L, protected_main);
    lua_pushlightuserdata(L, &c);
    bool ok = report(L, lua_pcall(L, 1, 1, 0)) == LUA_OK && lua_toboolean(L, -1);
    lua_close(L);
    if (!ok && cldL_interrupted()) return 130; /* as a shell reports a death by SIGINT */
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
