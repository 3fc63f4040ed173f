/* The captured graph in Lua. lua/cld/graph.lua builds cld.graph on it. */
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

/* record(device, step, ...) -> the graph, what step(...) returns: records what step computes, without computing it.
 * If step fails, the capture has ended too. step cannot yield, since nothing would end the capture then. */
static int graph_record(lua_State *L) {
    const cld_backend *device = cldL_check_device(L, 1);
    luaL_checkany(L, 2);
    cld_graph **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, GRAPH);
    lua_replace(L, 1);
    cldL_check_status(L, cld_graph_begin(device));
    if (lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0) != LUA_OK) {
        cld_graph_abandon();
        return lua_error(L);
    }
    *box = cld_graph_end();
    cldL_result(L, *box);
    return lua_gettop(L);
}

static int graph_capturing(lua_State *L) {
    lua_pushboolean(L, cld_graph_capturing());
    return 1;
}

/* inputs({x, ...}, device) -> {new tensors like them on the device, for set} */
static int graph_inputs(lua_State *L) {
    int count;
    cld_tensor **list = cldL_check_list(L, 1, &count);
    const cld_backend *device = cldL_check_device(L, 2);
    cld_tensor **out = lua_newuserdatauv(L, (size_t)count * sizeof *out, 0);
    lua_createtable(L, count, 0);
    cld_tensor ***boxes = lua_newuserdatauv(L, (size_t)count * sizeof *boxes, 0);
    for (int i = 0; i < count; i++) {
        boxes[i] = cldL_new_tensor(L);
        lua_seti(L, -3, i + 1);
    }
    cldL_check_status(L, cld_graph_inputs(out, list, count, device));
    for (int i = 0; i < count; i++) *boxes[i] = out[i];
    lua_pop(L, 1);
    return 1;
}

/* set(input, x): copies x, which may be on the host, to input */
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
        {"available", graph_available}, {"record", graph_record}, {"capturing", graph_capturing},
        {"inputs", graph_inputs},       {"set", graph_set},       {NULL, NULL},
    };
    luaL_newmetatable(L, GRAPH);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
