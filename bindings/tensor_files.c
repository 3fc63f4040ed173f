/* cld.io's part for files of tensors: safetensors, .npz, .npy; PyTorch's files are in torch_file.c. */
#include "bindings/io.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/io/npy.h"
#include "runtime/io/npz.h"
#include "runtime/io/recognise.h"
#include "runtime/io/tsv.h"

static void release_file(cldL_guard *g) { cld_safetensors_close(g->held); }

/* ---- safetensors --------------------------------------------------------------------------------------- */

static void release_npz(cldL_guard *g) { cld_npz_close(g->held); }

static int load_npz(lua_State *L, const char *path) {
    cldL_guard *g = cldL_new_guard(L, release_npz);
    cld_npz *file = g->held = cld_npz_open(path);
    if (!file) return cldL_raise(L);
    lua_newtable(L);
    lua_newtable(L);
    lua_newtable(L);
    int tensors = lua_gettop(L) - 2, unread = tensors + 2;
    for (;;) {
        const char *name;
        cld_tensor **t = cldL_new_tensor(L);
        cldL_check_status(L, cld_npz_next(file, &name, t));
        if (!name) break;
        bool is_read = *t != NULL;
        lua_pushstring(L, name);
        if (is_read)
            lua_pushvalue(L, -2);
        else
            lua_pushstring(L, cld_error_message());
        lua_rawset(L, is_read ? tensors : unread);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    cldL_release(g);
    return 3;
}

/* Pushes the file's metadata, {key = string}. */
static void push_metadata(lua_State *L, const cld_safetensors *file) {
    lua_createtable(L, 0, (int)file->metadata_count);
    for (size_t i = 0; i < file->metadata_count; i++) {
        const cld_safetensors_fact *fact = &file->metadata[i];
        lua_pushlstring(L, fact->key.data, fact->key.length);
        lua_pushlstring(L, fact->value.data, fact->value.length);
        lua_rawset(L, -3);
    }
}

/* --- cld.io.load(path) -> {name = tensor}, {key = string}, {name = why that tensor could not be read}: what cld.load
 * is built on: reads a safetensors or .npz file as it is, or a PyTorch file. */
static int io_load(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    cld_file_kind kind;
    cldL_check_status(L, cld_recognise(path, &kind));
    if (kind == CLD_FILE_TORCH) return cldL_load_torch(L, path);
    if (kind == CLD_FILE_NPZ) return load_npz(L, path);
    cldL_guard *g = cldL_new_guard(L, release_file);
    cld_safetensors *file = g->held = cld_safetensors_open(path);
    if (!file) return cldL_raise(L);
    lua_createtable(L, 0, (int)file->count);
    push_metadata(L, file);
    lua_newtable(L);
    int tensors = lua_gettop(L) - 2, unread = tensors + 2;
    for (size_t i = 0; i < file->count; i++) {
        lua_pushlstring(L, file->entries[i].name.data, file->entries[i].name.length);
        cld_tensor **t = cldL_new_tensor(L);
        *t = cld_safetensors_read(file, i);
        if (!*t && cld_error_code() != CLD_UNSUPPORTED) return cldL_raise(L);
        bool is_read = *t != NULL;
        if (!is_read) {
            lua_pop(L, 1);
            lua_pushstring(L, cld_error_message());
        }
        lua_rawset(L, is_read ? tensors : unread);
    }
    cldL_release(g);
    return 3;
}

/* --- cld.io.load_metadata(path) -> {key = string}: the metadata of a safetensors file; no tensor is read. */
static int io_load_metadata(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    cldL_guard *g = cldL_new_guard(L, release_file);
    cld_safetensors *file = g->held = cld_safetensors_open(path);
    if (!file) return cldL_raise(L);
    push_metadata(L, file);
    cldL_release(g);
    return 1;
}

/* The key below the value on the top of the stack (lua_next's), which must be a string. */
static const char *check_key(lua_State *L, int arg) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_argerror(L, arg, lua_pushfstring(L, "its keys must be names, got a %s", luaL_typename(L, -2)));
    size_t length;
    const char *key = lua_tolstring(L, -2, &length);
    if (strlen(key) != length) luaL_argerror(L, arg, "a name holds a zero byte");
    return key;
}

static size_t count_pairs(lua_State *L, int arg) {
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) count++;
    return count;
}

/* `count` zeroed elements that live until the binding returns. */
static void *new_list(lua_State *L, size_t count, size_t size) {
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    g->held = calloc(count + 1, size);
    if (!g->held) luaL_error(L, "out of memory for a list of %d entries", (int)count);
    return g->held;
}

cldL_contents cldL_check_contents(lua_State *L, int arg) {
    luaL_checktype(L, arg, LUA_TTABLE);
    if (lua_isnoneornil(L, arg + 1)) {
        lua_settop(L, arg);
        lua_newtable(L);
    }
    luaL_checktype(L, arg + 1, LUA_TTABLE);
    lua_settop(L, arg + 1);
    lua_newtable(L);      /* arg + 2: keeps the metadata's values, numbers turned into strings, alive */
    cldL_use_c_locale(L); /* so that a number in the metadata is written as 1.5 */
    cldL_contents c = {.count = count_pairs(L, arg), .metadata_count = count_pairs(L, arg + 1)};
    c.tensors = new_list(L, c.count, sizeof *c.tensors);
    c.metadata = new_list(L, c.metadata_count, sizeof *c.metadata);
    cld_named_tensor *tensor = c.tensors;
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1), tensor++) {
        tensor->name = check_key(L, arg);
        tensor->tensor = cldL_test_tensor(L, -1);
        if (!tensor->tensor)
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "'%s' is a %s; expected an open tensor", tensor->name,
                                          luaL_typename(L, -1)));
    }
    cld_metadata *entry = c.metadata;
    for (lua_pushnil(L); lua_next(L, arg + 1); lua_pop(L, 1), entry++) {
        size_t length;
        entry->key = (char *)check_key(L, arg + 1);
        if (lua_istable(L, -1) || lua_isfunction(L, -1))
            luaL_argerror(L, arg + 1,
                          lua_pushfstring(L, "'%s' is a %s; metadata are strings (see cld.json.encode)",
                                          entry->key, luaL_typename(L, -1)));
        entry->value = (char *)luaL_tolstring(L, -1, &length);
        if (strlen(entry->value) != length)
            luaL_argerror(L, arg + 1, lua_pushfstring(L, "'%s' holds a zero byte", entry->key));
        lua_setfield(L, arg + 2, entry->key);
    }
    return c;
}

/* Copies the fields of the table at arg, if there is one (name -> type), to the list of tensors. */
static void check_types(lua_State *L, int arg, const cldL_contents *c) {
    if (lua_isnoneornil(L, arg)) return;
    luaL_checktype(L, arg, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
        cld_named_tensor *found = NULL;
        const char *name = check_key(L, arg);
        for (size_t i = 0; i < c->count && !found; i++)
            if (strcmp(c->tensors[i].name, name) == 0) found = &c->tensors[i];
        if (!found) luaL_argerror(L, arg, lua_pushfstring(L, "there is no tensor '%s'", name));
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "the type of '%s' is a %s; expected a name such as \"I8\"", name,
                                          luaL_typename(L, -1)));
        found->type = lua_tostring(L, -1); /* the table keeps it */
    }
}

/* --- cld.io.save(path, {name = tensor}[, {key = string, number or boolean}[, {name = type}]]): what cld.save is
 * built on: writes a safetensors file, first under a temporary name: the old file stays until the new one is whole. */
static int io_save(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    lua_settop(L, 4);
    lua_rotate(L, 2, 1); /* moves the types below the rest, out of the way */
    cldL_contents c = cldL_check_contents(L, 3);
    check_types(L, 2, &c);
    cldL_check_saved(L, cld_safetensors_save(path, c.tensors, c.count, c.metadata, c.metadata_count));
    return 0;
}

/* ---- .npy ---------------------------------------------------------------------------------------------- */

/* --- cld.io.load_npy(path) -> tensor: reads a NumPy file. */
static int io_load_npy(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    cld_tensor **t = cldL_new_tensor(L);
    *t = cld_npy_load(path);
    return cldL_result(L, *t);
}

/* --- cld.io.save_npy(path, tensor): writes a NumPy file of format 1.0, which cannot hold bf16. */
static int io_save_npy(lua_State *L) {
    cldL_check_saved(L, cld_npy_save(cldL_check_text(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

/* --- cld.io.save_npz(path, {name = tensor}): writes an archive that numpy.load reads, as cld.save can too. */
static int io_save_npz(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    lua_settop(L, 2);
    cldL_contents c = cldL_check_contents(L, 2);
    cld_npz_array *arrays = new_list(L, c.count, sizeof *arrays);
    for (size_t i = 0; i < c.count; i++) arrays[i] = (cld_npz_array){c.tensors[i].name, c.tensors[i].tensor};
    cldL_check_saved(L, cld_npz_save(path, arrays, c.count));
    return 0;
}

/* --- cld.io.save_tsv(path, f32 (rows, columns)): writes one row a line, with tabs between the columns. */
static int io_save_tsv(lua_State *L) {
    cldL_check_saved(L, cld_tsv_save(cldL_check_text(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

const luaL_Reg cldL_tensor_files[] = {
    {"load", io_load},         {"is_torch", cldL_is_torch},         {"save", io_save},
    {"load_npy", io_load_npy}, {"save_npy", io_save_npy},           {"save_npz", io_save_npz},
    {"save_tsv", io_save_tsv}, {"load_metadata", io_load_metadata}, {NULL, NULL},
};
