/* --- cld.io: files and folders: files of tensors (NumPy's, PyTorch's and others), whole texts, locks. Programs save
 * and load with cld.save and cld.load. */
#include "bindings/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/io/keep.h"

#define GUARD "cld.io.guard"

void cldL_release(cldL_guard *g) {
    if (g->held) g->release(g);
    g->held = NULL;
}

static int guard_gc(lua_State *L) {
    cldL_release(luaL_checkudata(L, 1, GUARD));
    return 0;
}

cldL_guard *cldL_new_guard(lua_State *L, void (*how)(cldL_guard *g)) {
    cldL_guard *g = lua_newuserdatauv(L, sizeof *g, 0);
    *g = (cldL_guard){.release = how};
    luaL_setmetatable(L, GUARD);
    return g;
}

void cldL_release_memory(cldL_guard *g) { free(g->held); }
static void release_names(cldL_guard *g) { cld_free_names(g->held, g->count); }

const char *cldL_check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

void cldL_check_saved(lua_State *L, cld_status status) {
    cldL_check_status(L, status);
    char shown[2048]; /* a path may hold anything */
    const char *warning = cld_writer_warning();
    if (!warning) return;
    cld_printable(shown, sizeof shown, warning, strlen(warning), CLD_ONE_LINE);
    fprintf(stderr, "cldlua: warning: %s\n", shown);
}

/* ---- files and folders --------------------------------------------------------------------------------- */

/* --- cld.io.write_atomic(path, string): writes a whole file; the old one stays until the new one is on disk. */
static int io_write_atomic(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    size_t bytes;
    const char *data = luaL_checklstring(L, 2, &bytes);
    cld_writer w;
    cldL_check_status(L, cld_writer_open(&w, path));
    cld_writer_put(&w, data, bytes);
    cldL_check_saved(L, cld_writer_commit(&w));
    return 0;
}

/* --- cld.io.mkdir(path) -> boolean: makes the folder and its parents; true if it is new. */
static int io_mkdir(lua_State *L) {
    bool created;
    cldL_check_status(L, cld_make_folder(cldL_check_text(L, 1), 0777, &created));
    lua_pushboolean(L, created);
    return 1;
}

/* NULL for none. */
static const char *kind_name(cld_path_kind kind) {
    static const char *const names[] = {[CLD_PATH_NONE] = NULL,
                                        [CLD_PATH_FILE] = "file",
                                        [CLD_PATH_FOLDER] = "folder",
                                        [CLD_PATH_OTHER] = "other"};
    return names[kind];
}

/* --- cld.io.exists(path) -> "file", "folder", "other" or nil: what is there. */
static int io_exists(lua_State *L) {
    lua_pushstring(L, kind_name(cld_path(cldL_check_text(L, 1)))); /* NULL pushes nil */
    return 1;
}

static cldL_guard *new_names(lua_State *L) { return cldL_new_guard(L, release_names); }

/* Pushes a list of the names and frees them. */
static int push_names(lua_State *L, cldL_guard *g) {
    char **names = g->held;
    lua_createtable(L, (int)g->count, 0);
    for (size_t i = 0; i < g->count; i++) {
        lua_pushstring(L, names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    cldL_release(g);
    return 1;
}

/* --- cld.io.working_folder() -> path or nil: the folder that relative paths start from; nil once it has been removed */
static int io_working_folder(lua_State *L) {
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    g->held = getcwd(NULL, 0);
    lua_pushstring(L, g->held); /* NULL pushes nil */
    cldL_release(g);
    return 1;
}

/* --- cld.io.list(path) -> {name, ...}: the names in the folder, sorted. */
static int io_list(lua_State *L) {
    const char *path = cldL_check_text(L, 1);
    cldL_guard *g = new_names(L);
    char **names = NULL;
    cldL_check_status(L, cld_list_folder(path, &names, &g->count));
    g->held = names;
    return push_names(L, g);
}

/* ---- held folders -------------------------------------------------------------------------------------- */

#define FOLDER "cld.io.folder"

static cld_folder *check_folder(lua_State *L) {
    cld_folder *f = luaL_checkudata(L, 1, FOLDER);
    luaL_argcheck(L, f->fd >= 0, 1, "the folder is closed");
    return f;
}

static int hold(lua_State *L, cld_status (*how)(cld_folder *f, const char *path)) {
    const char *path = cldL_check_text(L, 1);
    cld_folder *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (cld_folder){.fd = -1};
    luaL_setmetatable(L, FOLDER);
    cldL_check_status(L, how(f, path));
    return f->fd >= 0;
}

/* --- cld.io.lock(folder) -> folder or nil: holds the folder by its descriptor and marks it as in use until it
 * is closed or collected; nil if another process holds it. */
static int io_lock(lua_State *L) { return hold(L, cld_folder_open); }

/* --- cld.io.claim(folder) -> folder or nil: as lock, but makes the folder if there is none. A folder made here
 * is removed again if it is still empty when it is closed. */
static int io_claim(lua_State *L) { return hold(L, cld_folder_claim); }

/* --- cld.io.in_use(folder) -> boolean or nil: whether a process holds it (cld.io.lock); nil if that cannot be told, as
 * on a network file system. */
static int io_in_use(lua_State *L) {
    cld_folder_use use = cld_folder_in_use(cldL_check_text(L, 1));
    if (use == CLD_FOLDER_UNKNOWN)
        lua_pushnil(L);
    else
        lua_pushboolean(L, use == CLD_FOLDER_HELD);
    return 1;
}

static int folder_close(lua_State *L) {
    cld_folder_close(luaL_checkudata(L, 1, FOLDER));
    return 0;
}

/* f:locked() -> false on a file system that cannot lock folders */
static int folder_locked(lua_State *L) {
    lua_pushboolean(L, check_folder(L)->locked);
    return 1;
}

/* f:where() -> the folder's current path; nil once it has been removed */
static int folder_where(lua_State *L) {
    cld_folder *f = check_folder(L);
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    g->held = cld_folder_where(f);
    lua_pushstring(L, g->held); /* NULL pushes nil */
    cldL_release(g);
    return 1;
}

/* f:exists(name) -> as exists(path) */
static int folder_exists(lua_State *L) {
    lua_pushstring(L, kind_name(cld_folder_has(check_folder(L), cldL_check_text(L, 2))));
    return 1;
}

/* f:list() -> as list(path) */
static int folder_list(lua_State *L) {
    cld_folder *f = check_folder(L);
    cldL_guard *g = new_names(L);
    char **names = NULL;
    cldL_check_status(L, cld_folder_list(f, &names, &g->count));
    g->held = names;
    return push_names(L, g);
}

/* f:read(name) -> the file's content, or nil if there is none */
static int folder_read(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = cldL_check_text(L, 2);
    cld_reader r;
    if (cld_folder_has(f, name) == CLD_PATH_NONE) return 0;
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    cldL_check_status(L, cld_reader_open_in(&r, f, name));
    g->held = malloc(r.bytes + 1);
    cld_status status = g->held ? cld_reader_get(&r, g->held, 0, r.bytes)
                                : cld_fail(CLD_NOMEM, "out of memory for the file '%s'", r.path);
    size_t bytes = r.bytes;
    cld_reader_close(&r);
    cldL_check_status(L, status);
    lua_pushlstring(L, g->held, bytes);
    cldL_release(g);
    return 1;
}

/* f:write(name, string): as write_atomic */
static int folder_write(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = cldL_check_text(L, 2);
    size_t bytes;
    const char *data = luaL_checklstring(L, 3, &bytes);
    cld_writer w;
    cldL_check_status(L, cld_writer_open_in(&w, f, name));
    cld_writer_put(&w, data, bytes);
    cldL_check_saved(L, cld_writer_commit(&w));
    return 0;
}

/* f:save(name, tensors[, metadata]): as save */
static int folder_save(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = cldL_check_text(L, 2);
    cldL_contents c = cldL_check_contents(L, 3);
    cld_writer w;
    cldL_check_status(L, cld_writer_open_in(&w, f, name));
    cldL_check_saved(L, cld_safetensors_write(&w, c.tensors, c.count, c.metadata, c.metadata_count));
    return 0;
}

/* f:append(name, line): adds a line to a text file; "" only makes the file */
static int folder_append(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = cldL_check_text(L, 2);
    size_t bytes;
    const char *line = luaL_checklstring(L, 3, &bytes);
    cldL_check_status(L, cld_append_line(f, name, line, bytes));
    return 0;
}

/* f:remove_leftover(name): removes a temporary file that no writer uses any more */
static int folder_remove_leftover(lua_State *L) {
    cld_folder_remove_leftover(check_folder(L), cldL_check_text(L, 2));
    return 0;
}

/* --- folder:keep(name, as): gives the file a second name, replacing any file of that name, without writing the
 * content again (runtime/io/keep.h). */
static int folder_keep(lua_State *L) {
    cldL_check_saved(L, cld_keep_as(check_folder(L), cldL_check_text(L, 2), cldL_check_text(L, 3)));
    return 0;
}

/* --- folder:remove(name): removes a file of the folder, if there is one */
static int folder_remove(lua_State *L) {
    cldL_check_status(L, cld_folder_remove(check_folder(L), cldL_check_text(L, 2)));
    return 0;
}

static void register_types(lua_State *L) {
    static const luaL_Reg of_folders[] = {
        {"close", folder_close},
        {"locked", folder_locked},
        {"where", folder_where},
        {"exists", folder_exists},
        {"list", folder_list},
        {"read", folder_read},
        {"write", folder_write},
        {"save", folder_save},
        {"append", folder_append},
        {"keep", folder_keep},
        {"remove", folder_remove},
        {"remove_leftover", folder_remove_leftover},
        {NULL, NULL},
    };
    const struct {
        const char *name;
        lua_CFunction close;
    } types[] = {{GUARD, guard_gc}, {FOLDER, folder_close}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        luaL_newmetatable(L, types[i].name);
        lua_pushcfunction(L, types[i].close);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, types[i].close);
        lua_setfield(L, -2, "__close");
        lua_pop(L, 1);
    }
    luaL_getmetatable(L, FOLDER);
    luaL_newlib(L, of_folders);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int cldL_open_io(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"write_atomic", io_write_atomic},
        {"writer", cldL_writer},
        {"mkdir", io_mkdir},
        {"exists", io_exists},
        {"list", io_list},
        {"working_folder", io_working_folder},
        {"lock", io_lock},
        {"claim", io_claim},
        {"in_use", io_in_use},
        {NULL, NULL},
    };
    register_types(L);
    luaL_newlib(L, functions);
    luaL_setfuncs(L, cldL_tensor_files, 0);
    cldL_add_torch(L);
    cldL_add_events(L);
    cldL_add_export(L);
    return 1;
}
