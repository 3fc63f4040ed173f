/* The edited line: libedit on a terminal. Without libedit lines cannot be edited.
 *
 * Ctrl-C at the prompt is a key, not a signal (the terminal has no interrupt character meanwhile), and a
 * SIGINT from elsewhere becomes that key.
 */
#include "bindings/interpreter.h"

#ifdef CLD_HAVE_EDITLINE
#    include <errno.h>
#    include <histedit.h>
#    include <langinfo.h>
#    include <locale.h>
#    include <signal.h>
#    include <string.h>
#    include <termios.h>
#    include <unistd.h>
#    include <wchar.h>

#    include "runtime/core/process.h"

#    define EDITOR        "cld.editor"
#    define HISTORY_LINES 1000
#    define CTRL_C        3

typedef struct editor {
    lua_State *L; /* the one that reads a line now */
    EditLine *line;
    History *history;
    int completer;         /* a reference in the registry */
    bool gave_up;          /* Ctrl-C ended the read */
    char *prompt;          /* a Lua string, on the stack during the read */
    struct termios before; /* the terminal's mode, outside of reads */
} editor;

static editor *editor_of(EditLine *line) {
    editor *e = NULL;
    el_get(line, EL_CLIENTDATA, &e);
    return e;
}

static char *prompt_of(EditLine *line) { return editor_of(line)->prompt; }

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* Tab: the completer gets the text before the cursor, returns what to insert and what to list; both may be nil. */
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

/* ---- the terminal -------------------------------------------------------------------------------------- */

/* The editor shows its prompt before it sets the terminal's mode: what is typed in between must neither be
 * echoed twice nor turn into a signal or an end of file. */
static void prepare(struct termios mode) {
    mode.c_lflag &= ~(tcflag_t)ECHO;
    mode.c_cc[VINTR] = mode.c_cc[VEOF] = _POSIX_VDISABLE;
    tcsetattr(STDIN_FILENO, TCSANOW, &mode);
}

/* Restores the terminal before a signal stops or ends the process, and prepares it again when the process
 * goes on. */
static void obey(editor *e, int number) {
    if (number == SIGWINCH) {
        el_resize(e->line);
        return;
    }
    el_set(e->line, EL_PREP_TERM, 0);
    tcsetattr(STDIN_FILENO, TCSANOW, &e->before);
    if (number != SIGCONT) cldL_wait_obey(number);
    prepare(e->before);
    el_set(e->line, EL_PREP_TERM, 1);
    putchar('\r');
    el_set(e->line, EL_REFRESH);
}

/* libedit's: 1 and a character, 0 at the end of the input, -1 on an error. Invalid bytes are dropped. */
static int read_character(EditLine *line, wchar_t *character) {
    mbstate_t state = {0};
    for (;;) {
        char byte;
        int number = cldL_wait_key();
        if (number == SIGINT) {
            *character = CTRL_C;
            return 1;
        }
        if (number) {
            obey(editor_of(line), number);
            continue;
        }
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return (int)n;
        size_t size = mbrtowc(character, &byte, 1, &state);
        if (size <= 1) return 1;
        if (size == (size_t)-1) state = (mbstate_t){0};
    }
}

/* ---- what Lua calls ------------------------------------------------------------------------------------ */

/* read(prompt) -> line; nil at the end of input; false after Ctrl-C. If the prompt has several lines, all but
 * the last are printed here: libedit moves the cursor in the last one. */
static int edited_read(lua_State *L) {
    editor *e = lua_touserdata(L, lua_upvalueindex(1));
    int length = 0;
    const char *prompt = luaL_checkstring(L, 1), *last = strrchr(prompt, '\n');
    if (last) fwrite(prompt, 1, (size_t)(last + 1 - prompt), stdout);
    e->prompt = (char *)(last ? last + 1 : prompt);
    e->L = L;
    e->gave_up = false;
    cldL_wait_begin();
    bool known = tcgetattr(STDIN_FILENO, &e->before) == 0;
    if (known) prepare(e->before);
    const char *text = el_gets(e->line, &length);
    if (known) tcsetattr(STDIN_FILENO, TCSANOW, &e->before);
    cldL_wait_end();
    if (text && length > 0)
        lua_pushlstring(L, text, (size_t)length - (text[length - 1] == '\n'));
    else if (e->gave_up)
        lua_pushboolean(L, 0);
    else
        lua_pushnil(L);
    return 1;
}

/* remember(line): adds it to the history that the arrow keys walk through. */
static int edited_remember(lua_State *L) {
    editor *e = lua_touserdata(L, lua_upvalueindex(1));
    HistEvent event;
    history(e->history, &event, H_ENTER, luaL_checkstring(L, 1));
    return 0;
}

/* ---- the editor ---------------------------------------------------------------------------------------- */

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
    el_set(e->line, EL_GETCFN, read_character);
    el_set(e->line, EL_EDITOR, "emacs");
    el_set(e->line, EL_HIST, history, e->history);
    el_set(e->line, EL_ADDFN, "cld-complete", "Complete the name before the cursor", on_tab);
    el_set(e->line, EL_ADDFN, "cld-give-up", "Give up the line", on_give_up);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_set(e->line, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_source(e->line, NULL); /* the user's own ~/.editrc */
}

/* So that the editor knows UTF-8 even if the environment names no locale, or one that does not exist. */
static void set_locale(void) {
    const char *name = setlocale(LC_CTYPE, "");
    if (!name || !strcmp(nl_langinfo(CODESET), "ANSI_X3.4-1968")) setlocale(LC_CTYPE, "C.UTF-8");
}

bool cldL_open_editor(lua_State *L) {
    static const luaL_Reg functions[] = {{"read", edited_read}, {"remember", edited_remember}, {NULL, NULL}};
    if (!isatty(STDIN_FILENO) || !cld_terminal()) return false;
    set_locale();
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
bool cldL_open_editor(lua_State *L) {
    (void)L;
    return false;
}
#endif
