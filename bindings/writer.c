/* cld.io.writer: a file that is written piece by piece under a temporary name, and renamed when it is whole
 * (runtime/io/file.h). */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/io/file.h"

#define CLDL_WRITER "cld.io.writer"

typedef struct writer {
    cld_writer file;
    bool is_open;
} writer;

static writer *check_writer(lua_State *L) {
    writer *w = luaL_checkudata(L, 1, CLDL_WRITER);
    luaL_argcheck(L, w->is_open, 1, "the file is already committed or closed");
    return w;
}

/* Gives up what was not committed. */
static int writer_close(lua_State *L) {
    writer *w = luaL_checkudata(L, 1, CLDL_WRITER);
    if (w->is_open) cld_writer_abandon(&w->file);
    w->is_open = false;
    return 0;
}

/* The elements of a tensor, row by row, as they lie in memory. */
static int put_tensor(lua_State *L, writer *w, cld_tensor *x) {
    cld_tensor **near = cldL_new_tensor(L);
    *near = cld_tensor_on_host(x);
    if (!*near) return cldL_raise(L);
    const cld_array *a = &(*near)->a;
    cldL_check_status(L, cld_writer_put(&w->file, a->data, (size_t)cld_numel(a) * cld_dtype_size(a->dtype)));
    return 0;
}

/* w:put(string, or tensor) */
static int writer_put(lua_State *L) {
    writer *w = check_writer(L);
    cld_tensor *x = cldL_test_tensor(L, 2);
    if (x) return put_tensor(L, w, x);
    size_t bytes;
    const char *data = luaL_checklstring(L, 2, &bytes);
    cldL_check_status(L, cld_writer_put(&w->file, data, bytes));
    return 0;
}

/* w:patch(offset, string): overwrites bytes that were put before */
static int writer_patch(lua_State *L) {
    writer *w = check_writer(L);
    lua_Integer offset = luaL_checkinteger(L, 2);
    size_t bytes;
    const char *data = luaL_checklstring(L, 3, &bytes);
    luaL_argcheck(L, offset >= 0, 2, "expected an offset of at least 0");
    cldL_check_status(L, cld_writer_patch(&w->file, (uint64_t)offset, data, bytes));
    return 0;
}

/* w:commit(): flushes the file to disk and gives it its name */
static int writer_commit(lua_State *L) {
    writer *w = check_writer(L);
    w->is_open = false;
    cldL_check_saved(L, cld_writer_commit(&w->file));
    return 0;
}

/* --- cld.io.writer(path) -> writer: a file that is written piece by piece under a temporary name:
 * w:put(string or tensor), w:patch(offset, string), and w:commit(), which gives it its name. If it is closed
 * without commit, nothing is left. */
int cldL_writer(lua_State *L) {
    static const luaL_Reg metamethods[] = {{"__close", writer_close}, {"__gc", writer_close}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", writer_close},
                                       {"commit", writer_commit},
                                       {"patch", writer_patch},
                                       {"put", writer_put},
                                       {NULL, NULL}};
    size_t length;
    const char *path = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, strlen(path) == length, 1, "the string holds a zero byte");
    writer *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (writer){.is_open = false};
    if (luaL_newmetatable(L, CLDL_WRITER)) {
        luaL_setfuncs(L, metamethods, 0);
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    cldL_check_status(L, cld_writer_open(&w->file, path));
    w->is_open = true;
    return 1;
}
