/* More of cld.io: saves networks for PyTorch, detectron2 and ONNX. lua/cld/export.lua is what users see. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/io/onnx_write.h"
#include "runtime/io/torch_write.h"

#define GRAPH "cld.io.onnx_graph"

static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

/* ---- named tensors ------------------------------------------------------------------------------------- */

/* The list {{name, tensor}, ...} at arg. The result is on the stack; the list keeps what it points to alive. */
static cld_named_tensor *check_pairs(lua_State *L, int arg, size_t *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    *count = (size_t)lua_rawlen(L, arg);
    cld_named_tensor *pairs = lua_newuserdatauv(L, (*count + 1) * sizeof *pairs, 0);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, arg, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_istable(L, -1), arg, "expected a list of {name, tensor}");
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, arg, "expected a list of {name, tensor}");
        pairs[i] = (cld_named_tensor){.name = lua_tostring(L, -2), .tensor = cldL_test_tensor(L, -1)};
        luaL_argcheck(L, pairs[i].tensor != NULL, arg, "expected a list of {name, tensor}");
        lua_pop(L, 3);
    }
    return pairs;
}

/* --- save_torch(path, {{name, tensor}, ...}): saves a state dict in PyTorch's zip format, in that order, for
 * torch.load(path, weights_only=True). */
static int io_save_torch(lua_State *L) {
    size_t count;
    const char *path = check_text(L, 1);
    cld_named_tensor *pairs = check_pairs(L, 2, &count);
    cldL_check_saved(L, cld_torch_save(path, pairs, count));
    return 0;
}

/* --- save_detectron2(path, {{name, tensor}, ...}, author): saves detectron2's model file, a pickle of {"model":
 * {name: NumPy array}, "__author__": author, "matching_heuristics": True}. */
static int io_save_detectron2(lua_State *L) {
    size_t count;
    const char *path = check_text(L, 1), *author = check_text(L, 3);
    cld_named_tensor *pairs = check_pairs(L, 2, &count);
    cldL_check_saved(L, cld_detectron2_save(path, pairs, count, author));
    return 0;
}

/* ---- ONNX ---------------------------------------------------------------------------------------------- */

static cld_onnx *check_graph(lua_State *L) { return *(cld_onnx **)luaL_checkudata(L, 1, GRAPH); }

static int graph_gc(lua_State *L) {
    cld_onnx **o = luaL_checkudata(L, 1, GRAPH);
    cld_onnx_free(*o);
    *o = NULL;
    return 0;
}

/* The list of texts at arg. The result is on the stack; the list keeps the texts alive. */
static const char **check_texts(lua_State *L, int arg, size_t *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    *count = (size_t)lua_rawlen(L, arg);
    const char **texts = lua_newuserdatauv(L, (*count + 1) * sizeof *texts, 0);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, arg, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, arg, "expected a list of names");
        texts[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    return texts;
}

/* The list of integers at arg; the result is on the stack. */
static int64_t *check_integers(lua_State *L, int arg, size_t *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    *count = (size_t)lua_rawlen(L, arg);
    int64_t *values = lua_newuserdatauv(L, (*count + 1) * sizeof *values, 0);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, arg, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_isinteger(L, -1), arg, "expected a list of integers");
        values[i] = lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    return values;
}

/* --- graph:node(op, name, inputs, outputs): adds a node that reads and makes the values with these names. */
static int graph_node(lua_State *L) {
    size_t in, out;
    cld_onnx *o = check_graph(L);
    const char *op = check_text(L, 2), *name = check_text(L, 3);
    const char **inputs = check_texts(L, 4, &in), **outputs = check_texts(L, 5, &out);
    cld_onnx_node(o, op, name, inputs, in, outputs, out);
    return 0;
}

/* --- graph:attribute(name, value): an attribute of the last node: an integer, a float, or a list of integers. */
static int graph_attribute(lua_State *L) {
    cld_onnx *o = check_graph(L);
    const char *name = check_text(L, 2);
    if (lua_istable(L, 3)) {
        size_t count;
        int64_t *values = check_integers(L, 3, &count);
        cld_onnx_integers(o, name, count, values);
    } else if (lua_isinteger(L, 3))
        cld_onnx_integer(o, name, lua_tointeger(L, 3));
    else
        cld_onnx_number(o, name, luaL_checknumber(L, 3));
    return 0;
}

/* --- graph:constant(name, tensor): a value stored in the file, f32 or i64. */
static int graph_constant(lua_State *L) {
    cld_onnx_constant(check_graph(L), check_text(L, 2), cldL_check_tensor(L, 3));
    return 0;
}

/* --- graph:input(name, shape, free): an input, f32; a dimension of -1 may have any size, and is called `free`. */
static int graph_input(lua_State *L) {
    size_t count;
    cld_onnx *o = check_graph(L);
    int64_t *shape = check_integers(L, 3, &count);
    cld_onnx_input(o, check_text(L, 2), count, shape, check_text(L, 4));
    return 0;
}

/* --- graph:output(name, shape, free): an output. */
static int graph_output(lua_State *L) {
    size_t count;
    cld_onnx *o = check_graph(L);
    int64_t *shape = check_integers(L, 3, &count);
    cld_onnx_output(o, check_text(L, 2), count, shape, check_text(L, 4));
    return 0;
}

/* --- graph:fact(key, value): metadata of the model; both are strings. */
static int graph_fact(lua_State *L) {
    cld_onnx_fact(check_graph(L), check_text(L, 2), check_text(L, 3));
    return 0;
}

/* --- graph:save(path, producer, version): saves the model as a file. */
static int graph_save(lua_State *L) {
    cld_onnx *o = check_graph(L);
    cldL_check_saved(L, cld_onnx_save(o, check_text(L, 2), check_text(L, 3), check_text(L, 4)));
    return 0;
}

/* --- onnx_graph() -> an empty ONNX graph; an error if cldlua was built without protobuf-c. */
static int io_onnx_graph(lua_State *L) {
    cld_onnx **o = lua_newuserdatauv(L, sizeof *o, 0);
    *o = NULL;
    luaL_setmetatable(L, GRAPH);
    *o = cld_onnx_new();
    return cldL_result(L, *o);
}

/* Adds to io's table, which is on top. */
void cldL_add_export(lua_State *L) {
    static const luaL_Reg functions[] = {{"save_torch", io_save_torch},
                                         {"save_detectron2", io_save_detectron2},
                                         {"onnx_graph", io_onnx_graph},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"node", graph_node},         {"attribute", graph_attribute},
        {"constant", graph_constant}, {"input", graph_input},
        {"output", graph_output},     {"fact", graph_fact},
        {"save", graph_save},         {NULL, NULL},
    };
    luaL_newmetatable(L, GRAPH);
    lua_pushcfunction(L, graph_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
