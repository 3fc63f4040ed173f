/* --- cld.text: text that does not follow the locale, and text of any origin made safe to show. */
#include "bindings/bindings.h"
#include "runtime/core/text.h"

#define GUARD "cld.c_locale"

/* --- cld.text.c_locale() -> guard: `local _ <close> = cld.text.c_locale()`: until the end of the block
 * string.format, tostring and tonumber write and read numbers with a point, whatever the locale. */
static int text_c_locale(lua_State *L) {
    locale_t *before = lua_newuserdatauv(L, sizeof *before, 0);
    luaL_setmetatable(L, GUARD);
    *before = cld_enter_c_locale();
    return 1;
}

void cldL_use_c_locale(lua_State *L) {
    text_c_locale(L);
    lua_toclose(L, -1);
}

static int guard_close(lua_State *L) {
    locale_t *before = luaL_checkudata(L, 1, GUARD);
    cld_leave_c_locale(*before);
    return 0;
}

void cldL_push_printable(lua_State *L, const char *text, size_t length, cld_newlines newlines) {
    luaL_Buffer out;
    size_t needed = cld_printable(NULL, 0, text, length, newlines);
    cld_printable(luaL_buffinitsize(L, &out, needed + 1), needed + 1, text, length, newlines);
    luaL_pushresultsize(&out, needed);
}

/* --- cld.text.printable(text) -> text: what a terminal would obey or cannot show becomes an escape such as \x1b; newlines and
 * tabs stay. */
static int text_printable(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    cldL_push_printable(L, text, length, CLD_LINES);
    return 1;
}

/* --- cld.text.printable_line(text) -> text: the same, and newlines and tabs are escaped. */
static int text_printable_line(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    cldL_push_printable(L, text, length, CLD_ONE_LINE);
    return 1;
}

int cldL_open_text(lua_State *L) {
    static const luaL_Reg functions[] = {{"c_locale", text_c_locale},
                                         {"printable", text_printable},
                                         {"printable_line", text_printable_line},
                                         {NULL, NULL}};
    if (luaL_newmetatable(L, GUARD)) {
        lua_pushcfunction(L, guard_close);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
