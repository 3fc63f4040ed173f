/* The terminal as lua/cld/repl.lua sees it. */
#include "bindings/interpreter.h"

int cldL_open_terminal(lua_State *L) {
    lua_newtable(L);
    return 1;
}
