/* --- cld.text: numbers that do not follow the locale, text of any origin made safe to show, and bytes as text. */
#include "bindings/bindings.h"

#include "runtime/core/base64.h"
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

/* --- cld.text.printable(text) -> text: escapes (such as \x1b) whatever a terminal would interpret or cannot show;
 * newlines and tabs stay. */
static int text_printable(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    cldL_push_printable(L, text, length, CLD_LINES);
    return 1;
}

/* --- cld.text.printable_line(text) -> text: the same, and also escapes newlines and tabs. */
static int text_printable_line(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    cldL_push_printable(L, text, length, CLD_ONE_LINE);
    return 1;
}

/* --- cld.text.base64(bytes) -> text: the bytes of a string, or of a u8 tensor of any shape, in padded Base64 (RFC
 * 4648).
 *
 *     print(cld.text.base64 "cld")  --> Y2xk
 */
static int text_base64(lua_State *L) {
    cld_tensor *tensor = cldL_test_tensor(L, 1);
    size_t length = 0;
    const void *bytes = tensor ? NULL : luaL_checklstring(L, 1, &length);
    if (tensor) {
        luaL_argcheck(L, tensor->a.dtype == CLD_U8, 1, "expected a string or a u8 tensor");
        cld_tensor **host = cldL_new_tensor(L);
        *host = cld_tensor_on_host(tensor);
        cldL_result(L, *host);
        bytes = (*host)->a.data;
        length = (size_t)cld_numel(&(*host)->a);
    }
    luaL_Buffer out;
    size_t needed = cld_base64_length(length);
    cld_base64(luaL_buffinitsize(L, &out, needed), bytes, length);
    luaL_pushresultsize(&out, needed);
    return 1;
}

int cldL_open_text(lua_State *L) {
    static const luaL_Reg functions[] = {{"c_locale", text_c_locale},
                                         {"printable", text_printable},
                                         {"printable_line", text_printable_line},
                                         {"base64", text_base64},
                                         {NULL, NULL}};
    if (luaL_newmetatable(L, GUARD)) {
        lua_pushcfunction(L, guard_close);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
