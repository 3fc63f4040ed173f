/* The captured graph in Lua. lua/cld/graph.lua makes cld.graph of it. */
#include "runtime/graph/graph.h"
#include "bindings/bindings.h"

#define GRAPH "cld.captured_graph"

static cld_graph *check_graph(lua_State *L) {
    cld_graph *g = *(cld_graph **)luaL_checkudata(L, 1, GRAPH);
    luaL_argcheck(L, g, 1, "the graph was closed");
    return g;
}

/* available(device) -> boolean */
static int graph_available(lua_State *L) {
    lua_pushboolean(L, cld_graph_available(cldL_check_device(L, 1)));
    return 1;
}

/* begin(device): what is computed from here on is recorded, and not done */
static int graph_begin(lua_State *L) {
    cldL_check_status(L, cld_graph_begin(cldL_check_device(L, 1)));
    return 0;
}

/* finish() -> the graph */
static int graph_finish(lua_State *L) {
    cld_graph **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, GRAPH);
    *box = cld_graph_end();
    return cldL_result(L, *box);
}

/* abandon(): the end of a capture in which something failed */
static int graph_abandon(lua_State *L) {
    (void)L;
    cld_graph_abandon();
    return 0;
}

static int graph_capturing(lua_State *L) {
    lua_pushboolean(L, cld_graph_capturing());
    return 1;
}

/* input(x, device) -> a tensor like x there, for set */
static int graph_input(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    const cld_backend *device = cldL_check_device(L, 2);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_graph_input(x, device);
    return cldL_result(L, *out);
}

/* set(input, x): input = x, which may lie on the host */
static int graph_set(lua_State *L) {
    cldL_check_status(L, cld_graph_set(cldL_check_tensor(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

static int graph_replay(lua_State *L) {
    cldL_check_status(L, cld_graph_replay(check_graph(L)));
    return 0;
}

static int graph_close(lua_State *L) {
    cld_graph **box = luaL_checkudata(L, 1, GRAPH);
    cld_graph_free(*box);
    *box = NULL;
    return 0;
}

int cldL_open_graph(lua_State *L) {
    static const luaL_Reg methods[] = {{"replay", graph_replay}, {"close", graph_close}, {NULL, NULL}};
    static const luaL_Reg metamethods[] = {{"__gc", graph_close}, {"__close", graph_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"available", graph_available},
        {"begin", graph_begin},
        {"finish", graph_finish},
        {"abandon", graph_abandon},
        {"capturing", graph_capturing},
        {"input", graph_input},
        {"set", graph_set},
        {NULL, NULL},
    };
    luaL_newmetatable(L, GRAPH);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
