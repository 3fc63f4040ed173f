/* cld.core.json: JSON text to Lua values, through jansson. The way back is lua/cld/json.lua.
 *
 * Integers and floats stay what they are; null becomes json.null, a light userdata, so that arrays keep their
 * places.
 */
#include "bindings/bindings.h"

#include <jansson.h>

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

static void push(lua_State *L, json_t *value) {
    const char *key;
    json_t *item;
    size_t i;
    luaL_checkstack(L, 4, "the JSON lies too deep");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        lua_createtable(L, 0, (int)json_object_size(value));
        json_object_foreach(value, key, item) {
            push(L, item);
            lua_setfield(L, -2, key);
        }
        break;
    case JSON_ARRAY:
        lua_createtable(L, (int)json_array_size(value), 0);
        json_array_foreach(value, i, item) {
            push(L, item);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    case JSON_STRING: lua_pushlstring(L, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(value)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(value)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    case JSON_NULL: lua_pushlightuserdata(L, NULL); break;
    }
}

/* decode(string) -> value */
static int json_decode(lua_State *L) {
    size_t length;
    json_error_t error;
    const char *text = luaL_checklstring(L, 1, &length);
    json_t **value = new_holder(L);
    *value = json_loadb(text, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!*value)
        return luaL_error(L, "json.decode: %s at line %d, column %d", error.text, error.line, error.column);
    push(L, *value);
    return 1;
}

int cldL_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"decode", json_decode}, {NULL, NULL}};
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
