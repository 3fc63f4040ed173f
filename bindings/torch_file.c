/* PyTorch's files as Lua values: cld.load of a .pth.
 *
 * Every container is made empty, noted, and filled later from a queue, so that a value may contain itself, and none
 * is made twice. */
#include "bindings/bindings.h"

#include <math.h>
#include <stdio.h>

#include "runtime/io/recognise.h"
#include "runtime/io/torch_file.h"

#define FILE_GUARD "cld.io.torch_file"
#define RECORD     "cld.record"
#define NONE       "cld.none"

static int file_gc(lua_State *L) {
    cld_torch_file **f = luaL_checkudata(L, 1, FILE_GUARD);
    cld_torch_close(*f);
    *f = NULL;
    return 0;
}

static int none_tostring(lua_State *L) {
    lua_pushliteral(L, "None");
    return 1;
}

/* A walk over a file's values. Stack positions: made, value -> its Lua value; queue, the values still to fill. */
typedef struct walk {
    lua_State *L;
    cld_torch_file *f;
    cld_pickle *p;
    int made, queue;
    lua_Integer queued;
} walk;

/* Notes that value i became the Lua value on top of the stack. */
static void note(walk *w, uint32_t i) {
    lua_pushvalue(w->L, -1);
    lua_rawseti(w->L, w->made, (lua_Integer)i + 1);
}

static bool push_made(walk *w, uint32_t i) {
    if (lua_rawgeti(w->L, w->made, (lua_Integer)i + 1) != LUA_TNIL) return true;
    lua_pop(w->L, 1);
    return false;
}

/* A new table that will be filled. */
static void push_unfilled(walk *w, uint32_t i) {
    lua_newtable(w->L);
    note(w, i);
    lua_pushinteger(w->L, i);
    lua_rawseti(w->L, w->queue, ++w->queued);
}

/* The one value that stands for None. */
static void push_none(lua_State *L) {
    luaL_getmetatable(L, NONE);
    lua_getfield(L, -1, "value");
    lua_remove(L, -2);
}

/* ---- plain values -------------------------------------------------------------------------------------- */

enum { SHORT_STRING = 240 }; /* such a string is made again at each of its places */

static void push_string(walk *w, uint32_t i, const cld_pickle_value *v) {
    char text[SHORT_STRING + 8];
    if (v->string.form == CLD_PICKLE_AS_IS && v->string.raw <= SHORT_STRING) {
        lua_pushlstring(w->L, text, cld_pickle_text(w->p, v, text, sizeof text));
        return;
    }
    luaL_Buffer buffer;
    uint64_t size = 0;
    cldL_check_status(w->L, cld_pickle_measure(w->p, v, &size));
    char *to = luaL_buffinitsize(w->L, &buffer, (size_t)size);
    cld_pickle_stream *s = cld_pickle_stream_open(w->p, v);
    cld_status status = s ? cld_pickle_stream_next(s, to, (size_t)size) : cld_error_code();
    cld_pickle_stream_free(s);
    cldL_check_status(w->L, status);
    luaL_pushresultsize(&buffer, (size_t)size);
    note(w, i);
}

/* ---- records ------------------------------------------------------------------------------------------- */

/* {class =, ...}: a record, for a value that has no counterpart here. Its other fields are filled later. */
static void push_record(walk *w, uint32_t i, const cld_pickle_value *v) {
    char name[512] = "numpy.ndarray";
    if (v->kind == CLD_PICKLE_DTYPE) snprintf(name, sizeof name, "numpy.dtype");
    if (v->kind == CLD_PICKLE_PERSISTENT) snprintf(name, sizeof name, "persistent id");
    if (v->kind == CLD_PICKLE_NAME || v->kind == CLD_PICKLE_OBJECT)
        cld_pickle_full_name(w->p, v, name, sizeof name);
    push_unfilled(w, i);
    lua_pushstring(w->L, name);
    lua_setfield(w->L, -2, "class");
    luaL_setmetatable(w->L, RECORD);
}

static void push_value(walk *w, uint32_t i);

/* A tensor, or the value that an object stands for; else a record. */
static void push_object(walk *w, uint32_t i) {
    uint32_t within = i;
    cld_tensor **t = cldL_new_tensor(w->L);
    cldL_check_status(w->L, cld_torch_read(w->f, &within, t));
    bool is_tensor = *t != NULL, again = within != i && push_made(w, within);
    if (again) {
        lua_remove(w->L, -2); /* the tensor of the same value */
    } else if (!is_tensor) {
        lua_pop(w->L, 1);
        if (within != i && cld_pickle_at(w->p, within)->kind != CLD_PICKLE_OBJECT)
            push_value(w, within); /* which is not an object: one step further at most */
        else
            push_record(w, i, cld_pickle_at(w->p, i));
        return;
    }
    note(w, i);
    if (within != i) note(w, within);
}

static void push_value(walk *w, uint32_t i) {
    const cld_pickle_value *v = cld_pickle_at(w->p, i);
    if (push_made(w, i)) return;
    switch (v->kind) {
    case CLD_PICKLE_NONE: push_none(w->L); return;
    case CLD_PICKLE_BOOL: lua_pushboolean(w->L, v->integer != 0); return;
    case CLD_PICKLE_INTEGER: lua_pushinteger(w->L, v->integer); return;
    case CLD_PICKLE_NUMBER: lua_pushnumber(w->L, v->number); return;
    case CLD_PICKLE_BYTES:
    case CLD_PICKLE_TEXT: push_string(w, i, v); return;
    case CLD_PICKLE_LIST:
    case CLD_PICKLE_TUPLE:
    case CLD_PICKLE_SET:
    case CLD_PICKLE_DICT: push_unfilled(w, i); return;
    case CLD_PICKLE_NAME:
    case CLD_PICKLE_DTYPE: push_record(w, i, v); return;
    case CLD_PICKLE_ARRAY:
    case CLD_PICKLE_PERSISTENT:
    case CLD_PICKLE_OBJECT: push_object(w, i); return;
    }
}

/* ---- filling ------------------------------------------------------------------------------------------- */

/* Sets the field of the table on top, if there is such a value. */
static void set_field(walk *w, const char *name, uint32_t i) {
    if (!i) return;
    push_value(w, i);
    lua_setfield(w->L, -2, name);
}

static void fill_list(walk *w, const cld_pickle_value *v) {
    uint32_t item;
    lua_Integer at = 0;
    for (cld_pickle_cursor c = cld_pickle_items(v); cld_pickle_next(w->p, &c, &item);) {
        push_value(w, item);
        lua_rawseti(w->L, -2, ++at);
    }
}

static void fill_dict(walk *w, const cld_pickle_value *v) {
    uint32_t key, held;
    cld_pickle_cursor c = cld_pickle_items(v);
    while (cld_pickle_next(w->p, &c, &key) && cld_pickle_next(w->p, &c, &held)) {
        const cld_pickle_value *k = cld_pickle_at(w->p, key);
        if (k->kind == CLD_PICKLE_NUMBER && isnan(k->number))
            lua_pushliteral(w->L, "nan"); /* not a key in Lua */
        else
            push_value(w, key);
        push_value(w, held);
        lua_rawset(w->L, -3);
    }
}

/* {shape, dtype, data} of an array that cannot be a tensor. */
static void fill_array(walk *w, const cld_pickle_value *v) {
    const uint32_t parts[] = {v->array.shape, v->array.dtype, v->array.data};
    lua_newtable(w->L);
    for (int i = 0; i < 3; i++) {
        push_value(w, parts[i]);
        lua_rawseti(w->L, -2, i + 1);
    }
    lua_setfield(w->L, -2, "arguments");
}

static void fill_object(walk *w, const cld_pickle_value *v) {
    set_field(w, "arguments", v->object.arguments);
    set_field(w, "state", v->object.state);
    set_field(w, "items", v->object.items);
    set_field(w, "entries", v->object.entries);
}

static void fill(walk *w, uint32_t i) {
    const cld_pickle_value *v = cld_pickle_at(w->p, i);
    lua_rawgeti(w->L, w->made, (lua_Integer)i + 1);
    switch (v->kind) {
    case CLD_PICKLE_DICT: fill_dict(w, v); break;
    case CLD_PICKLE_DTYPE: set_field(w, "arguments", v->dtype.name); break;
    case CLD_PICKLE_PERSISTENT: set_field(w, "arguments", v->id); break;
    case CLD_PICKLE_ARRAY: fill_array(w, v); break;
    case CLD_PICKLE_OBJECT: fill_object(w, v); break;
    case CLD_PICKLE_NAME: break;
    default: fill_list(w, v);
    }
    lua_pop(w->L, 1);
}

/* load(path) of a PyTorch file -> its value, {format = "PyTorch zip", "PyTorch legacy" or "pickle"}, {} */
int cldL_load_torch(lua_State *L, const char *path) {
    static const char *const formats[] = {[CLD_TORCH_ZIP] = "PyTorch zip",
                                          [CLD_TORCH_LEGACY] = "PyTorch legacy",
                                          [CLD_TORCH_PICKLE] = "pickle"};
    cld_torch_file **f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = NULL;
    luaL_setmetatable(L, FILE_GUARD);
    *f = cld_torch_open(path);
    if (!*f) return cldL_raise(L);
    lua_newtable(L);
    lua_newtable(L);
    int top = lua_gettop(L);
    walk w = {.L = L, .f = *f, .p = cld_torch_pickle(*f), .made = top - 1, .queue = top};
    push_value(&w, cld_pickle_root(w.p));
    for (lua_Integer at = 1; at <= w.queued; at++) {
        lua_rawgeti(L, w.queue, at);
        uint32_t i = (uint32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
        fill(&w, i);
    }
    lua_createtable(L, 0, 1);
    lua_pushstring(L, formats[cld_torch_format_of(*f)]);
    lua_setfield(L, -2, "format");
    cld_torch_close(*f);
    *f = NULL;
    lua_newtable(L);
    return 3;
}

/* --- cld.io.is_torch(path) -> boolean: whether cld.load reads the file as a PyTorch file; an error if it is of
 * another known kind. */
int cldL_is_torch(lua_State *L) {
    cld_file_kind kind;
    cldL_check_status(L, cld_recognise(luaL_checkstring(L, 1), &kind));
    lua_pushboolean(L, kind == CLD_FILE_TORCH);
    return 1;
}

/* Adds to io's table, which is on top: none, and record, the metatable of records. */
void cldL_add_torch(lua_State *L) {
    luaL_newmetatable(L, FILE_GUARD);
    lua_pushcfunction(L, file_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, RECORD);
    lua_setfield(L, -2, "record");
    luaL_newmetatable(L, NONE);
    lua_pushcfunction(L, none_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_newuserdatauv(L, 0, 0);
    luaL_setmetatable(L, NONE);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "value");
    lua_setfield(L, -3, "none");
    lua_pop(L, 1);
}
