/* The interpreter. */
#include "bindings/bindings.h"

#include <stdio.h>

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    luaL_requiref(L, "cld.core", luaopen_cld_core, 0);
    int status = argc > 2 ? luaL_dostring(L, argv[2]) : LUA_OK;
    if (status != LUA_OK) fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return status;
}
