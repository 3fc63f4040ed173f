/* cld.core.json: JSON text to Lua values, through jansson, and strings to JSON. lua/cld/json.lua writes all other
 * values.
 *
 * Integers and floats stay what they are; null becomes json.null, a light userdata, so that arrays keep their
 * places.
 *
 * A path may be any bytes; JSON is UTF-8. A byte 0xNN that is not part of a UTF-8 character is written as the
 * character U+10FENN, "\udbff\udeNN": a private-use one that every reader accepts and nobody else uses. It is read
 * back as the byte. Those characters themselves are written byte by byte, so that every string comes back as it was.
 */
#define _GNU_SOURCE /* memmem */
#include "bindings/bindings.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "runtime/io/json_memory.h"

#define HOLDER "cld.json.holder"

/* A JSON value that a Lua error must not leak. */
static json_t **new_holder(lua_State *L) {
    json_t **holder = lua_newuserdatauv(L, sizeof *holder, 0);
    *holder = NULL;
    luaL_setmetatable(L, HOLDER);
    return holder;
}

static int holder_gc(lua_State *L) {
    json_t **holder = luaL_checkudata(L, 1, HOLDER);
    json_decref(*holder);
    *holder = NULL;
    return 0;
}

/* ---- strings ------------------------------------------------------------------------------------------- */

enum { BYTES = 0x10FE00 }; /* BYTES + 0x80 to BYTES + 0xFF stand for these bytes */

static bool stands_for_byte(unsigned code) { return code >= BYTES + 0x80 && code <= BYTES + 0xFF; }

static void push_string(lua_State *L, const char *text, size_t length) {
    luaL_Buffer out;
    unsigned code;
    if (!memmem(text, length, "\xF4\x8F", 2)) { /* how those characters begin */
        lua_pushlstring(L, text, length);
        return;
    }
    luaL_buffinit(L, &out);
    for (size_t i = 0, bytes; i < length; i += bytes) {
        bytes = (size_t)cld_utf8(text + i, length - i, &code);
        if (bytes == 0) bytes = 1; /* cannot happen: jansson has checked it */
        if (bytes == 4 && stands_for_byte(code))
            luaL_addchar(&out, (char)(code - BYTES));
        else
            luaL_addlstring(&out, text + i, bytes);
    }
    luaL_pushresult(&out);
}

/* Escapes what JSON requires, and control characters beyond ASCII too, since logs are read on terminals. */
static const char *escape(char room[16], unsigned code) {
    static const char plain[] = "\"\\\n\r\t", letters[] = "\"\\nrt";
    const char *found = code && code < 0x80 ? strchr(plain, (int)code) : NULL;
    if (found) return snprintf(room, 16, "\\%c", letters[found - plain]), room;
    if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return snprintf(room, 16, "\\u%04x", code), room;
    return NULL;
}

/* quote(string) -> JSON text */
static int json_quote(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length), *escaped;
    luaL_Buffer out;
    char room[16];
    luaL_buffinit(L, &out);
    luaL_addchar(&out, '"');
    for (size_t i = 0, bytes; i < length; i += bytes) {
        unsigned code = 0;
        bytes = (size_t)cld_utf8(text + i, length - i, &code);
        if (bytes == 0 || stands_for_byte(code)) {
            bytes = 1;
            snprintf(room, sizeof room, "\\udbff\\ude%02x", (unsigned char)text[i]);
            luaL_addstring(&out, room);
        } else if ((escaped = escape(room, code)))
            luaL_addstring(&out, escaped);
        else
            luaL_addlstring(&out, text + i, bytes);
    }
    luaL_addchar(&out, '"');
    luaL_pushresult(&out);
    return 1;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static void push(lua_State *L, json_t *value) {
    const char *key;
    json_t *item;
    size_t i;
    luaL_checkstack(L, 4, "the JSON is nested too deeply");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        lua_createtable(L, 0, (int)json_object_size(value));
        json_object_foreach(value, key, item) {
            push_string(L, key, strlen(key));
            push(L, item);
            lua_rawset(L, -3);
        }
        break;
    case JSON_ARRAY:
        lua_createtable(L, (int)json_array_size(value), 0);
        json_array_foreach(value, i, item) {
            push(L, item);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    case JSON_STRING: push_string(L, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(value)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(value)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    case JSON_NULL: lua_pushlightuserdata(L, NULL); break;
    }
}

/* --- cld.json.decode(text) -> value: JSON as Lua values. Integers stay integers; null is cld.json.null, so
 * that lists keep their places. Text that is not JSON is an error with line and column.
 *
 *     print(cld.json.decode('{"a": [1, 2.5]}').a[2])   --> 2.5 */
static int json_decode(lua_State *L) {
    size_t length;
    json_error_t error;
    const char *text = luaL_checklstring(L, 1, &length);
    json_t **value = new_holder(L);
    cld_json_watch();
    locale_t before = cld_enter_c_locale();
    *value = json_loadb(text, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    cld_leave_c_locale(before);
    if (cld_json_starved()) {
        json_decref(*value);
        *value = NULL;
        return luaL_error(L, "json.decode: out of memory");
    }
    if (!*value) {
        cldL_push_printable(L, error.text, strlen(error.text), CLD_ONE_LINE); /* it quotes the text */
        return luaL_error(L, "json.decode: %s at line %d, column %d", lua_tostring(L, -1), error.line,
                          error.column);
    }
    push(L, *value);
    return 1;
}

int cldL_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"decode", json_decode}, {"quote", json_quote}, {NULL, NULL}};
    if (luaL_newmetatable(L, HOLDER)) {
        lua_pushcfunction(L, holder_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
