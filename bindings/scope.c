/* cld.core.scope: scopes of temporaries: which tensors Lua got while a scope was open. lua/cld/nn/scope.lua decides
 * which of them to close.
 *
 * The scope that is open in a coroutine is a table {tensor = true}, to which every new tensor of the coroutine is
 * added. Its field "outer" is the scope around it, if there is one. */
#include "bindings/bindings.h"

static const char key; /* registry[&key] = {coroutine = its scope}, the keys weak */

/* Push the coroutine's open scope; if none is open, push nothing and return false. */
static bool push_scope(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TTABLE) {
        lua_pop(L, 1);
        return false;
    }
    lua_pushthread(L);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1)) return true;
    lua_pop(L, 1);
    return false;
}

void cldL_note_tensor(lua_State *L) {
    luaL_checkstack(L, 4, "a scope's tensors");
    if (!push_scope(L)) return;
    lua_pushvalue(L, -2);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

void cldL_forget_tensor(lua_State *L, int arg) {
    arg = lua_absindex(L, arg);
    luaL_checkstack(L, 4, "a scope's tensors");
    if (!push_scope(L)) return;
    while (lua_istable(L, -1)) {
        lua_pushvalue(L, arg);
        lua_pushnil(L);
        lua_rawset(L, -3);
        lua_pushstring(L, "outer");
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    lua_pop(L, 1);
}

void cldL_leave_scope(lua_State *L) {
    if (!push_scope(L)) lua_pushnil(L);
    lua_pushnil(L);
    cldL_enter_scope(L);
}

void cldL_enter_scope(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
    lua_pushthread(L);
    lua_rotate(L, -3, -1); /* the scope goes to the top */
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* current() -> the scope that is open in this coroutine, or nil */
static int current(lua_State *L) {
    cldL_check_count(L, 0);
    if (!push_scope(L)) lua_pushnil(L);
    return 1;
}

/* enter(scope or nil): from now on it is the open one in this coroutine */
static int enter(lua_State *L) {
    cldL_check_count(L, 1);
    if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    cldL_enter_scope(L);
    return 0;
}

/* forget(tensor): removes it from all open scopes of this coroutine */
static int forget(lua_State *L) {
    luaL_checkudata(L, 1, CLDL_TENSOR);
    cldL_forget_tensor(L, 1);
    return 0;
}

int cldL_open_scope(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"current", current},
        {"enter", enter},
        {"forget", forget},
        {NULL, NULL},
    };
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushstring(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    luaL_newlib(L, functions);
    return 1;
}
