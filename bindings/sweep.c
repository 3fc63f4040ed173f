/* cld.core.dataset.sweep: reads every image of a data set once, in order. Users see lua/cld/data/sweep.lua. */
#include "bindings/bindings.h"
#include "runtime/data/sweep.h"

#define CLDL_SWEEP "cld.sweep"

static int sweep_close(lua_State *L) {
    cld_sweep **box = luaL_checkudata(L, 1, CLDL_SWEEP), *s = *box;
    *box = NULL;
    cld_sweep_free(s);
    return 0;
}

static void set_integer(lua_State *L, const char *name, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static void push_item(lua_State *L, const cld_sweep_item *item) {
    lua_createtable(L, 0, 12);
    set_integer(L, "row", item->row + 1);
    lua_pushstring(L, item->problem); /* NULL pushes nil */
    lua_setfield(L, -2, "problem");
    if (item->height) {
        set_integer(L, "height", item->height);
        set_integer(L, "width", item->width);
    }
    if (item->is_file) {
        set_integer(L, "file_bytes", (lua_Integer)item->file_bytes);
        set_integer(L, "digest", (lua_Integer)item->digest);
    }
    if (item->is_file && !item->problem) {
        lua_pushstring(L, cld_picture_kind_name(item->facts.kind));
        lua_setfield(L, -2, "kind");
        set_integer(L, "channels", item->facts.channels);
        set_integer(L, "bits", item->facts.bits);
        set_integer(L, "orientation", item->facts.orientation);
        set_flag(L, "alpha", item->facts.alpha);
    }
    if (!item->made_bytes) return;
    lua_pushlstring(L, (const char *)item->made, item->made_bytes);
    lua_setfield(L, -2, "made");
    set_flag(L, "is_copy", item->is_copy);
}

/* A call of the sweep: its next item; nil after the last; false if a signal came while it waited. */
static int sweep_next(lua_State *L) {
    cld_sweep **box = luaL_checkudata(L, 1, CLDL_SWEEP);
    luaL_argcheck(L, *box, 1, "the sweep was closed");
    cld_sweep_item item;
    cld_status status = cld_sweep_next(*box, &item);
    if (status == CLD_INTERRUPTED) return lua_pushboolean(L, false), 1;
    cldL_check_status(L, status);
    if (item.row < 0) return lua_pushnil(L), 1;
    push_item(L, &item);
    return 1;
}

/* --- cld.dataset.sweep(source, "nothing"|"jpeg"|"square", side, quality, workers) -> function: reads every
 * image once, in order, with `workers` threads for decoding. Programs use cld.data.sweep. */
int cldL_sweep(lua_State *L) {
    static const char *const makes[] = {
        [CLD_SWEEP_NOTHING] = "nothing", [CLD_SWEEP_JPEG] = "jpeg", [CLD_SWEEP_SQUARE] = "square", NULL};
    static const luaL_Reg metamethods[] = {
        {"__call", sweep_next}, {"__close", sweep_close}, {"__gc", sweep_close}, {NULL, NULL}};
    cld_dataset *set = cldL_check_dataset(L, 1);
    lua_Integer numbers[3];
    for (int i = 0; i < 3; i++) {
        numbers[i] = luaL_checkinteger(L, 3 + i);
        luaL_argcheck(L, numbers[i] >= 0 && numbers[i] <= INT32_MAX, 3 + i, "out of range");
    }
    cld_sweep_options options = {
        .make = (cld_sweep_make)luaL_checkoption(L, 2, NULL, makes),
        .side = (int)numbers[0],
        .quality = (int)numbers[1],
        .workers = (int)numbers[2],
    };
    cld_sweep **box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = NULL;
    if (luaL_newmetatable(L, CLDL_SWEEP)) luaL_setfuncs(L, metamethods, 0);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* a set written in Lua lives as long as its userdata */
    *box = cld_sweep_new(set, &options);
    return cldL_result(L, *box);
}
