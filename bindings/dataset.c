/* --- cld.dataset: the C functions beneath cld.data, which adds labels, classes and names and is what programs use.
 * Rows count from 0 here. */
#include "bindings/bindings.h"
#include "runtime/core/process.h"
#include "runtime/data/dataset.h"

#include <stdlib.h>
#include <string.h>

#define CLDL_DATASET "cld.core.dataset"

cld_dataset *cldL_check_dataset(lua_State *L, int arg) {
    cld_dataset **box = luaL_checkudata(L, arg, CLDL_DATASET);
    luaL_argcheck(L, *box, arg, "the data set is closed");
    return *box;
}

/* Pushes an empty box for the next data set. */
static cld_dataset **new_dataset(lua_State *L) {
    cld_dataset **box = lua_newuserdatauv(L, sizeof *box, 2);
    *box = NULL;
    luaL_setmetatable(L, CLDL_DATASET);
    return box;
}

static int dataset_gc(lua_State *L) {
    cld_dataset **box = luaL_checkudata(L, 1, CLDL_DATASET), *d = *box;
    *box = NULL;
    cld_dataset_free(d);
    return 0;
}

/* ---- sets written in Lua ------------------------------------------------------------------------------- */

/* The userdata keeps two Lua threads. The function is called on the first, while any other thread runs. It is kept at
 * the bottom of the stack of the second, which never runs, because the function may ask for other images of its own
 * set. */
typedef struct lua_set {
    cld_dataset base;
    lua_State *L, *keeper;
    cld_tensor *image; /* what the last call returned */
} lua_set;

/* image, label: on top of the thread's stack. */
static cld_status take_result(lua_set *set, cld_source *s) {
    lua_State *L = set->L;
    cld_tensor *image = cldL_test_tensor(L, -2);
    const cld_array *a = image ? &image->a : NULL;
    if (!a || a->dtype != CLD_U8 || a->ndim != 3 || a->shape[2] != 3 || a->shape[0] < 1 || a->shape[1] < 1 ||
        a->shape[0] > 65535 || a->shape[1] > 65535)
        return cld_fail(CLD_INVALID,
                        "read must return an image u8[height, width, 3], and may return its label; got %s",
                        a ? cld_describe(a) : luaL_typename(L, -2));
    if (!lua_isnil(L, -1)) {
        int is_integer;
        s->label = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer) {
            const cld_tensor *label = cldL_test_tensor(L, -1);
            return cld_fail(CLD_INVALID, "read must return an integer as the label, or nothing; got a %s%s",
                            label ? cld_describe(&label->a) : luaL_typename(L, -1),
                            label ? "; :item() gives its number" : "");
        }
        s->has_label = true;
    }
    cld_tensor_free(set->image);
    set->image = cld_tensor_on_host(image);
    if (!set->image) return cld_error_code();
    s->height = (int)a->shape[0];
    s->width = (int)a->shape[1];
    s->pixels = set->image->a.data;
    return CLD_OK;
}

static int to_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* An error of the function is a fault of that image, unless memory or a device failed, or a stop was requested. */
static cld_status read_failed(lua_State *L, int result) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error without a message";
    if (result == LUA_ERRMEM) return cld_fail(CLD_NOMEM, "data set: read(i): %s", text);
    if (cld_stop_requested()) return cld_fail(CLD_INTERRUPTED, "data set: read(i): %s", text);
    cld_status code = cld_error_code();
    bool is_ours = code != CLD_OK && strstr(text, cld_error_message());
    return cld_fail(is_ours && code != CLD_IO ? code : CLD_INVALID, "%s", text);
}

static cld_status lua_open(cld_dataset *d, int64_t row, cld_source *s) {
    lua_set *set = (lua_set *)d;
    lua_State *L = set->L;
    int top = lua_gettop(L);
    if (!lua_checkstack(L, LUA_MINSTACK) || !lua_checkstack(set->keeper, 1))
        return cld_fail(CLD_NOMEM, "out of memory for a call of read");
    lua_pushcfunction(L, to_text);
    lua_pushvalue(set->keeper, 1);
    lua_xmove(set->keeper, L, 1);
    lua_pushinteger(L, row + 1);
    int result = lua_pcall(L, 1, 2, top + 1);
    cld_status status = result == LUA_OK ? take_result(set, s) : read_failed(L, result);
    lua_settop(L, top);
    return status;
}

static void lua_describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    (void)d;
    snprintf(text, size, "read(%lld)", (long long)row + 1);
}

static void lua_free(cld_dataset *d) {
    lua_set *set = (lua_set *)d;
    cld_tensor_free(set->image);
    free(set);
}

static const cld_dataset_ops lua_ops = {"custom", lua_open, lua_describe, lua_free};

/* --- cld.dataset.custom(count, f) -> source: a data set without labels and names, which cld.data adds. f(i),
 * i from 1, returns an image u8 (H, W, 3) and optionally its label. Programs use cld.data.custom. */
static int dataset_custom(lua_State *L) {
    lua_Integer count = luaL_checkinteger(L, 1);
    luaL_argcheck(L, count >= 1, 1, "expected at least one image");
    luaL_checktype(L, 2, LUA_TFUNCTION);
    cld_dataset **box = new_dataset(L);
    lua_State *thread = lua_newthread(L);
    lua_setiuservalue(L, -2, 1);
    lua_State *keeper = lua_newthread(L);
    lua_setiuservalue(L, -2, 2);
    lua_pushvalue(L, 2);
    lua_xmove(L, keeper, 1);
    lua_set *set = malloc(sizeof *set);
    if (!set) return luaL_error(L, "data set: out of memory");
    *set = (lua_set){
        .base = {.ops = &lua_ops, .count = count, .one_thread = true, .references = 1},
        .L = thread,
        .keeper = keeper,
    };
    *box = &set->base;
    return 1;
}

/* ---- the others ---------------------------------------------------------------------------------------- */

/* --- cld.dataset.memory(images) -> source: a data set of images u8 (N, H, W, 3) on the cpu. Programs use
 * cld.data.tensors. */
static int dataset_memory(lua_State *L) {
    cld_tensor *images = cldL_check_tensor(L, 1);
    cld_dataset **box = new_dataset(L);
    *box = cld_dataset_of_tensor(images);
    return cldL_result(L, *box);
}

/* --- cld.dataset.npy(path) -> source: a data set of the images u1 (N, H, W, 3) in a .npy file, each read when
 * it is asked for. */
static int dataset_npy(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    cld_dataset **box = new_dataset(L);
    *box = cld_dataset_of_npy(path);
    return cldL_result(L, *box);
}

/* --- cld.dataset.files(listing) -> source: a data set of the image files of a listing (cld.files.list). */
static int dataset_files(lua_State *L) {
    cld_listing *listing = cldL_check_listing(L, 1);
    cld_dataset **box = new_dataset(L);
    *box = cld_dataset_of_files(listing);
    return cldL_result(L, *box);
}

/* --- cld.dataset.members(tar, listing) -> source: a data set of members of a .tar archive (cld.files.tar). */
static int dataset_members(lua_State *L) {
    const cld_tar *tar = cldL_check_tar(L, 1);
    cld_listing *listing = cldL_check_listing(L, 2);
    luaL_argcheck(L, listing->members, 2, "expected the listing of an archive");
    cld_dataset **box = new_dataset(L);
    *box = cld_dataset_of_members(tar, listing);
    return cldL_result(L, *box);
}

/* --- cld.dataset.planes(path, height, width, by_columns) -> source: a data set of raw images of three planes,
 * as in STL-10's files; by_columns: a plane is stored column by column. */
static int dataset_planes(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    lua_Integer height = luaL_checkinteger(L, 2), width = luaL_checkinteger(L, 3);
    luaL_argcheck(L, height >= 1 && height <= 65535 && width >= 1 && width <= 65535, 2,
                  "expected 1 to 65535 pixels");
    bool by_columns = cldL_check_flag(L, 4, false);
    cld_dataset **box = new_dataset(L);
    *box = cld_dataset_of_planes(path, (int)height, (int)width, by_columns);
    return cldL_result(L, *box);
}

static cld_tensor *check_indices(lua_State *L, int arg, cld_dtype dtype) {
    cld_tensor *t = cldL_check_tensor(L, arg);
    luaL_argcheck(L,
                  t->a.dtype == dtype && t->a.ndim == 1 && cld_is_contiguous(&t->a) &&
                      cld_device(t) == cld_cpu_backend(),
                  arg, "expected a contiguous vector on the cpu, rows i64 and parts i32");
    return t;
}

/* --- cld.dataset.select({source, ...}, rows[, parts]) -> source: image i is image rows[i] (i64, from 0) of
 * source parts[i] (i32, from 0), or of the first source without parts. */
static int dataset_select(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer count = luaL_len(L, 1);
    luaL_argcheck(L, count >= 1 && count <= 65536, 1, "expected a list of 1 to 65536 data sets");
    cld_tensor *rows = check_indices(L, 2, CLD_I64);
    cld_tensor *parts = lua_isnoneornil(L, 3) ? NULL : check_indices(L, 3, CLD_I32);
    luaL_argcheck(L, !parts || parts->a.shape[0] == rows->a.shape[0], 3, "expected as many parts as rows");
    cld_dataset **sets = lua_newuserdatauv(L, (size_t)count * sizeof *sets, 0);
    lua_createtable(L, (int)count, 0); /* keeps the parts: their functions may be Lua's */
    for (lua_Integer i = 0; i < count; i++) {
        lua_geti(L, 1, i + 1);
        sets[i] = cldL_check_dataset(L, lua_gettop(L));
        lua_rawseti(L, -2, i + 1);
    }
    cld_dataset **box = new_dataset(L);
    lua_pushvalue(L, -2);
    lua_setiuservalue(L, -2, 1);
    *box = cld_dataset_select(sets, (int)count, parts ? parts->a.data : NULL, rows->a.data, rows->a.shape[0]);
    return cldL_result(L, *box);
}

/* ---- methods ------------------------------------------------------------------------------------------- */

static int dataset_len(lua_State *L) {
    lua_pushinteger(L, cldL_check_dataset(L, 1)->count);
    return 1;
}

/* size() -> height, width of every image, or nil if sizes differ. */
static int dataset_size(lua_State *L) {
    const cld_dataset *d = cldL_check_dataset(L, 1);
    if (!d->height) return lua_pushnil(L), 1;
    lua_pushinteger(L, d->height);
    lua_pushinteger(L, d->width);
    return 2;
}

/* describe(row) -> the image's name for messages */
static int dataset_describe(lua_State *L) {
    cld_dataset *d = cldL_check_dataset(L, 1);
    lua_Integer row = luaL_checkinteger(L, 2);
    luaL_argcheck(L, row >= 0 && row < d->count, 2, "expected the row of an image, from 0");
    char text[1024];
    cld_dataset_describe(d, row, text, sizeof text);
    lua_pushstring(L, text);
    return 1;
}

/* set_upright(flag): whether EXIF's orientation is applied. */
static int dataset_set_upright(lua_State *L) {
    cld_dataset *d = cldL_check_dataset(L, 1);
    d->upright = cldL_check_flag(L, 2, true);
    return 0;
}

static cld_status read_whole(cld_tensor **out, cld_source *s, cld_dataset *d, int64_t row) {
    cld_pixels pixels;
    CLD_TRY(cld_dataset_open(s, d, row));
    CLD_TRY(cld_source_pixels(&pixels, s, (cld_rect){0, 0, s->height, s->width}, 1));
    int64_t shape[] = {s->height, s->width, 3};
    *out = cld_tensor_new(CLD_U8, 3, shape, cld_cpu_backend());
    if (!*out) return cld_error_code();
    size_t line = 3 * (size_t)s->width;
    for (int y = 0; y < s->height; y++)
        memcpy((uint8_t *)(*out)->a.data + (size_t)y * line, pixels.data + (size_t)y * pixels.stride, line);
    return CLD_OK;
}

/* read(row) -> u8 (H, W, 3), and the label if the set itself knows it */
static int dataset_read(lua_State *L) {
    cld_dataset *d = cldL_check_dataset(L, 1);
    lua_Integer row = luaL_checkinteger(L, 2);
    cld_tensor **box = cldL_new_tensor(L);
    cld_source s = {0};
    cld_status status = read_whole(box, &s, d, row);
    if (status != CLD_OK && row >= 0 && row < d->count) {
        char name[600];
        cld_dataset_describe(d, row, name, sizeof name);
        cld_fail_in("%s", name);
    }
    cld_source_free(&s);
    cldL_check_status(L, status);
    if (!s.has_label) return 1;
    lua_pushinteger(L, s.label);
    return 2;
}

/* load() -> u8 (N, H, W, 3): all images of a set whose images have one size */
static int dataset_load(lua_State *L) {
    cld_dataset *d = cldL_check_dataset(L, 1);
    cld_tensor **box = cldL_new_tensor(L);
    *box = cld_dataset_load(d);
    return cldL_result(L, *box);
}

static const luaL_Reg methods[] = {
    {"describe", dataset_describe},       {"load", dataset_load}, {"read", dataset_read},
    {"set_upright", dataset_set_upright}, {"size", dataset_size}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {{"__gc", dataset_gc}, {"__len", dataset_len}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"custom", dataset_custom}, {"files", dataset_files}, {"members", dataset_members},
    {"memory", dataset_memory}, {"npy", dataset_npy},     {"planes", dataset_planes},
    {"select", dataset_select}, {"sweep", cldL_sweep},    {NULL, NULL},
};

int cldL_open_dataset(lua_State *L) {
    luaL_newmetatable(L, CLDL_DATASET);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
