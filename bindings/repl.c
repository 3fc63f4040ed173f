/* The terminal as lua/cld/repl.lua sees it: reading an edited line, tab, the history in memory, stoppable
 * calls. What the session does with a line is Lua's business.
 *
 * Ctrl-C at the prompt is a key, not a signal (the terminal has no interrupt character meanwhile): that
 * leaves no handler that could come at a bad moment. Without libedit, or where stdin is no terminal, lines
 * are plain.
 */
#include "bindings/interpreter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#ifdef CLD_HAVE_EDITLINE
#    include <histedit.h>
#    include <locale.h>

#    define EDITOR        "cld.editor"
#    define HISTORY_LINES 1000

typedef struct editor {
    lua_State *L; /* that reads a line now */
    EditLine *line;
    History *history;
    int completer; /* a reference in the registry */
    bool gave_up;  /* Ctrl-C ended the read */
    char prompt[128];
} editor;

static editor *editor_of(EditLine *line) {
    editor *e = NULL;
    el_get(line, EL_CLIENTDATA, &e);
    return e;
}

static char *prompt_of(EditLine *line) { return editor_of(line)->prompt; }

/* Tab: the completer gets the text before the cursor, returns what to insert and what to list; both may be
 * nil. */
static unsigned char on_tab(EditLine *line, int key) {
    (void)key;
    lua_State *L = editor_of(line)->L;
    const LineInfo *info = el_line(line);
    unsigned char result = CC_ERROR; /* beeps */
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, editor_of(line)->completer);
    lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
        if (lua_isstring(L, -2) && el_insertstr(line, lua_tostring(L, -2)) == 0) result = CC_REFRESH;
        if (lua_isstring(L, -1)) {
            printf("\n%s\n", lua_tostring(L, -1));
            result = CC_REDISPLAY;
        }
    }
    lua_settop(L, top);
    return result;
}

static unsigned char on_give_up(EditLine *line, int key) {
    (void)key;
    editor_of(line)->gave_up = true;
    puts("^C");
    return CC_EOF;
}

/* The editor shows its prompt before it sets the terminal's mode: what is typed in between must neither be
 * echoed twice nor turn into a signal or an end of file. */
static void prepare(struct termios mode) {
    mode.c_lflag &= ~(tcflag_t)ECHO;
    mode.c_cc[VINTR] = mode.c_cc[VEOF] = _POSIX_VDISABLE;
    tcsetattr(STDIN_FILENO, TCSANOW, &mode);
}

/* read(prompt) -> line; nil at the end of input; false after Ctrl-C. */
static int edited_read(lua_State *L) {
    editor *e = lua_touserdata(L, lua_upvalueindex(1));
    int length = 0;
    snprintf(e->prompt, sizeof e->prompt, "%s", luaL_checkstring(L, 1));
    e->L = L;
    e->gave_up = false;
    struct termios before;
    bool known = tcgetattr(STDIN_FILENO, &before) == 0;
    if (known) prepare(before);
    const char *text = el_gets(e->line, &length);
    if (known) tcsetattr(STDIN_FILENO, TCSANOW, &before);
    if (text && length > 0)
        lua_pushlstring(L, text, (size_t)length - (text[length - 1] == '\n'));
    else if (e->gave_up)
        lua_pushboolean(L, 0);
    else
        lua_pushnil(L);
    return 1;
}

/* remember(line): into the history that the arrow keys walk. */
static int edited_remember(lua_State *L) {
    editor *e = lua_touserdata(L, lua_upvalueindex(1));
    HistEvent event;
    history(e->history, &event, H_ENTER, luaL_checkstring(L, 1));
    return 0;
}

static int editor_close(lua_State *L) {
    editor *e = luaL_checkudata(L, 1, EDITOR);
    if (e->line) el_end(e->line);
    if (e->history) history_end(e->history);
    e->line = NULL;
    e->history = NULL;
    return 0;
}

static void set_up(editor *e) {
    static const char *const keys[][2] = {
        {"^I", "cld-complete"},       {"^C", "cld-give-up"},
        {"^R", "em-inc-search-prev"}, {"\\e[3~", "ed-delete-next-char"},
        {"\\e[H", "ed-move-to-beg"},  {"\\e[F", "ed-move-to-end"},
        {"\\e[1~", "ed-move-to-beg"}, {"\\e[4~", "ed-move-to-end"},
        {"\\e[1;5C", "em-next-word"}, {"\\e[1;5D", "ed-prev-word"},
    };
    HistEvent event;
    history(e->history, &event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->line, EL_CLIENTDATA, e);
    el_set(e->line, EL_PROMPT, prompt_of);
    el_set(e->line, EL_EDITOR, "emacs");
    el_set(e->line, EL_SIGNAL, 1);
    el_set(e->line, EL_HIST, history, e->history);
    el_set(e->line, EL_ADDFN, "cld-complete", "Complete the name before the cursor", on_tab);
    el_set(e->line, EL_ADDFN, "cld-give-up", "Give up the line", on_give_up);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_set(e->line, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_source(e->line, NULL); /* the user's own ~/.editrc */
}

/* Adds read and remember to the table at 2; false where there can be no editor. The completer is at 1. */
static bool open_editor(lua_State *L) {
    static const luaL_Reg functions[] = {{"read", edited_read}, {"remember", edited_remember}, {NULL, NULL}};
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return false;
    setlocale(LC_CTYPE, ""); /* so that the editor knows UTF-8 */
    editor *e = lua_newuserdatauv(L, sizeof *e, 0);
    memset(e, 0, sizeof *e);
    if (luaL_newmetatable(L, EDITOR)) {
        lua_pushcfunction(L, editor_close);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    e->completer = luaL_ref(L, LUA_REGISTRYINDEX);
    e->line = el_init("cldlua", stdin, stdout, stderr);
    e->history = history_init();
    if (!e->line || !e->history) return false;
    set_up(e);
    lua_pushvalue(L, 2);
    lua_insert(L, -2);
    luaL_setfuncs(L, functions, 1);
    return true;
}
#else
static bool open_editor(lua_State *L) {
    (void)L;
    return false;
}
#endif

/* ---- without an editor --------------------------------------------------------------------------------- */

static int plain_read(lua_State *L) {
    char piece[512];
    luaL_Buffer text;
    bool any = false;
    fputs(luaL_checkstring(L, 1), stdout);
    fflush(stdout);
    luaL_buffinit(L, &text);
    while (fgets(piece, sizeof piece, stdin)) {
        size_t length = strlen(piece), whole = length > 0 && piece[length - 1] == '\n';
        any = true;
        luaL_addlstring(&text, piece, length - whole);
        if (whole) break;
    }
    luaL_pushresult(&text);
    if (!any) lua_pushnil(L);
    return 1;
}

static int plain_remember(lua_State *L) {
    (void)L;
    return 0;
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

/* make_folder(path): with the folders above it, for the user's eyes only; true where it is there now. */
static int make_folder(lua_State *L) {
    char path[4096];
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    if (length >= sizeof path) return 0;
    memcpy(path, text, length + 1);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST) return 0;
        *slash = '/';
    }
    lua_pushboolean(L, mkdir(path, 0700) == 0 || errno == EEXIST);
    return 1;
}

/* terminal(complete) -> {read, remember, call, make_folder, editing}. */
int cldL_open_terminal(lua_State *L) {
    static const luaL_Reg functions[] = {{"read", plain_read},
                                         {"remember", plain_remember},
                                         {"call", stoppable_call},
                                         {"make_folder", make_folder},
                                         {NULL, NULL}};
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    cldL_set_session(true);
    luaL_newlib(L, functions);
    bool editing = open_editor(L);
    lua_settop(L, 2);
    lua_pushboolean(L, editing);
    lua_setfield(L, 2, "editing");
    return 1;
}
