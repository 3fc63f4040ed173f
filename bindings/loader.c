/* --- cld.loader: the C functions beneath cld.data.loader, which has the settings and their defaults. Programs use
 * cld.data.loader. */
#include "bindings/bindings.h"
#include "runtime/data/loader.h"

/* ---- images that cannot be read ------------------------------------------------------------------------ */

#define CLDL_BAD "cld.bad_images"

static cld_bad_images *check_bad(lua_State *L, int arg) {
    return *(cld_bad_images **)luaL_checkudata(L, arg, CLDL_BAD);
}

/* --- cld.loader.bad_images(count, share, strict) -> list: which of a data set's count images could not be
 * read. More than that share of them, or with strict any, is an error. #list, list:reason(i). */
static int loader_bad_images(lua_State *L) {
    lua_Integer count = luaL_checkinteger(L, 1);
    double share = luaL_checknumber(L, 2);
    bool strict = cldL_check_flag(L, 3, false);
    cld_bad_images **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_BAD);
    *box = cld_bad_images_new(count, share, strict);
    return cldL_result(L, *box);
}

static int bad_gc(lua_State *L) {
    cld_bad_images **box = luaL_checkudata(L, 1, CLDL_BAD);
    cld_bad_images_free(*box);
    *box = NULL;
    return 0;
}

/* #bad, and bad:reason(i) -> why, row from 0; i from 1 in the order in which the images were found */
static int bad_len(lua_State *L) {
    lua_pushinteger(L, cld_bad_images_kept(check_bad(L, 1)));
    return 1;
}

static int bad_reason(lua_State *L) {
    int64_t row;
    lua_pushstring(L, cld_bad_images_reason(check_bad(L, 1), luaL_checkinteger(L, 2) - 1, &row));
    lua_pushinteger(L, row);
    return 2;
}

/* bad:add(row, reason): adds an image that another rank found. An error if there are too many now */
static int bad_add(lua_State *L) {
    cld_bad_images *b = check_bad(L, 1);
    cldL_check_status(L, cld_bad_images_add(b, luaL_checkinteger(L, 2), luaL_checkstring(L, 3)));
    return 0;
}

/* ---- the settings -------------------------------------------------------------------------------------- */

#define CLDL_EPOCH "cld.epoch"

static int clamp_int(lua_Integer i) { return i < -1 ? -1 : i > INT32_MAX ? INT32_MAX : (int)i; }

static void check_programs(lua_State *L, int arg, cld_loader *l) {
    lua_getfield(L, arg, "programs");
    luaL_checktype(L, -1, LUA_TTABLE);
    int list = lua_gettop(L);
    l->views = clamp_int(luaL_len(L, list));
    for (int v = 0; v < l->views && v < CLD_MAX_VIEWS; v++) {
        lua_geti(L, list, v + 1);
        l->program[v] = cldL_check_program(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The complete table of settings at arg, as lua/cld/data/loader.lua makes it, except for the views' dtype. The table
 * keeps alive what the result points to. */
static cld_loader check_loader(lua_State *L, int arg) {
    cld_loader l = {.dtype = CLD_F32};
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_getfield(L, arg, "set");
    l.set = cldL_check_dataset(L, lua_gettop(L));
    lua_getfield(L, arg, "bad");
    l.bad = check_bad(L, lua_gettop(L));
    lua_getfield(L, arg, "device");
    l.device = cldL_check_device(L, lua_gettop(L));
    lua_pop(L, 3);
    l.labels = cldL_field_tensor(L, arg, "labels");
    if (!l.labels) luaL_error(L, "loader: the data set has no labels");
    l.resident = cldL_field_tensor(L, arg, "resident_images");
    check_programs(L, arg, &l);
    l.batch_size = cldL_field_integer(L, arg, "batch_size", 0);
    l.workers = clamp_int(cldL_field_integer(L, arg, "workers", 0));
    l.prefetch = clamp_int(cldL_field_integer(L, arg, "prefetch", 0));
    l.seed = (uint64_t)cldL_field_integer(L, arg, "seed", 0);
    l.shuffle = cldL_field_boolean(L, arg, "shuffle", false);
    l.fast = cldL_field_boolean(L, arg, "fast", false);
    l.drop_last = cldL_field_boolean(L, arg, "drop_last", false);
    l.drop_single = cldL_field_boolean(L, arg, "drop_single", false);
    l.block = cldL_field_integer(L, arg, "block", 0);
    l.rank = clamp_int(cldL_field_integer(L, arg, "rank", 0));
    l.world = clamp_int(cldL_field_integer(L, arg, "world", 0));
    return l;
}

/* --- cld.loader.rest(settings, first_image) -> steps, images: what is left of an epoch from first_image on.
 * Checks every setting. */
static int loader_rest(lua_State *L) {
    cld_loader l = check_loader(L, 1);
    cld_epoch_rest rest;
    cldL_check_status(L, cld_loader_rest(&rest, &l, luaL_checkinteger(L, 2)));
    lua_pushinteger(L, rest.steps);
    lua_pushinteger(L, rest.images);
    return 2;
}

/* --- cld.loader.resident(set, device) -> tensor or nil: the set's images on that device; nil if the host
 * reads them. */
static int loader_resident(lua_State *L) {
    cld_dataset *set = cldL_check_dataset(L, 1);
    const cld_backend *device = cldL_check_device(L, 2);
    cld_tensor *there = NULL, **out = cldL_new_tensor(L);
    cldL_check_status(L, cld_loader_resident(&there, set, device));
    if (there)
        *out = there;
    else
        lua_pushnil(L);
    return 1;
}

/* ---- an epoch ------------------------------------------------------------------------------------------ */

/* --- cld.loader.epoch(settings, epoch, first_image, dtype) -> function: each call returns the next batch, nil
 * after the last, or false if a signal came while it waited. Programs use cld.data.loader. */
static int loader_epoch(lua_State *L) {
    cld_loader l = check_loader(L, 1);
    l.dtype = cldL_check_dtype(L, 4);
    cld_epoch **box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = NULL;
    luaL_setmetatable(L, CLDL_EPOCH);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* the settings keep the list of bad images */
    *box = cld_epoch_new(&l, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return cldL_result(L, *box);
}

static cld_epoch *check_epoch(lua_State *L) {
    cld_epoch **box = luaL_checkudata(L, 1, CLDL_EPOCH);
    luaL_argcheck(L, *box, 1, "the epoch was closed");
    return *box;
}

static int epoch_close(lua_State *L) {
    cld_epoch **box = luaL_checkudata(L, 1, CLDL_EPOCH);
    cld_epoch *e = *box;
    *box = NULL;
    cld_epoch_free(e);
    return 0;
}

/* waited() -> how many seconds the consumer has waited for batches */
static int epoch_waited(lua_State *L) {
    lua_pushnumber(L, cld_epoch_waited(check_epoch(L)));
    return 1;
}

/* The call of an epoch -> {views = {(n, 3, height, width), ...}, index = i64 (n), labels = i64 (n)} on the device,
 * and share, as cldL_push_share makes it; nil after the last batch; false after a signal. */
static int epoch_next(lua_State *L) {
    cld_epoch *e = check_epoch(L);
    /* Userdata first: nothing below may leak what the worker made. */
    cld_tensor **views[CLD_MAX_VIEWS], **index, **labels;
    int count = cld_epoch_views(e);
    lua_createtable(L, 0, 3);
    lua_createtable(L, count, 0);
    for (int v = 0; v < count; v++) {
        views[v] = cldL_new_tensor(L);
        lua_rawseti(L, -2, v + 1);
    }
    lua_setfield(L, -2, "views");
    index = cldL_new_tensor(L);
    lua_setfield(L, -2, "index");
    labels = cldL_new_tensor(L);
    lua_setfield(L, -2, "labels");

    cld_batch batch = {0};
    bool done = false;
    cld_status status = cld_epoch_next(e, &batch, &done);
    if (status == CLD_INTERRUPTED) return lua_pushboolean(L, false), 1;
    cldL_check_status(L, status);
    if (done) return lua_pushnil(L), 1;
    for (int v = 0; v < count; v++) *views[v] = batch.view[v];
    *index = batch.index;
    *labels = batch.labels;
    cldL_push_share(L, &batch.share);
    lua_setfield(L, -2, "share");
    return 1;
}

static const luaL_Reg epoch_metamethods[] = {
    {"__call", epoch_next},
    {"__close", epoch_close},
    {"__gc", epoch_close},
    {NULL, NULL},
};

static const luaL_Reg epoch_methods[] = {{"waited", epoch_waited}, {NULL, NULL}};
static const luaL_Reg bad_metamethods[] = {{"__gc", bad_gc}, {"__len", bad_len}, {NULL, NULL}};
static const luaL_Reg bad_methods[] = {{"add", bad_add}, {"reason", bad_reason}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"bad_images", loader_bad_images},
    {"epoch", loader_epoch},
    {"resident", loader_resident},
    {"rest", loader_rest},
    {NULL, NULL},
};

static void new_class(lua_State *L, const char *name, const luaL_Reg *metamethods, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, metamethods, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int cldL_open_loader(lua_State *L) {
    new_class(L, CLDL_EPOCH, epoch_metamethods, epoch_methods);
    new_class(L, CLDL_BAD, bad_metamethods, bad_methods);
    luaL_newlibtable(L, functions);
    lua_pushliteral(L, "loader"); /* the name in their errors */
    luaL_setfuncs(L, functions, 1);
    return 1;
}
