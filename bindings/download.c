/* --- cld.download: the C functions beneath cld.data.download, which fetch, check and unpack files in time slices:
 *
 *   local job <close> = cld.download.fetch(...)
 *   local state, have, text = job:step(0.1)      -- "running", "complete" or "failed"; bytes so far
 *
 * Programs use cld.data.download, which gets data sets with them. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/io/checksum.h"
#include "runtime/io/download.h"
#include "runtime/io/unpack.h"

#define FETCH    "cld.download.fetch"
#define CHECKSUM "cld.download.checksum"
#define UNPACK   "cld.download.unpack"

/* Each userdata holds a pointer to its job: NULL before there is one, and after it is closed. */
static void **new_job(lua_State *L, const char *type) {
    void **job = lua_newuserdatauv(L, sizeof *job, 0);
    *job = NULL;
    luaL_setmetatable(L, type);
    return job;
}

static void *check_job(lua_State *L, const char *type) {
    void **job = luaL_checkudata(L, 1, type);
    luaL_argcheck(L, *job, 1, "the job is closed");
    return *job;
}

static void *take_job(lua_State *L, const char *type) {
    void **box = luaL_checkudata(L, 1, type), *job = *box;
    *box = NULL;
    return job;
}

/* A string without embedded zeros: C would cut it short there. */
static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

static int give_state(lua_State *L, const char *state, uint64_t have, const char *text) {
    lua_pushstring(L, state);
    lua_pushinteger(L, (lua_Integer)have);
    lua_pushstring(L, text); /* NULL pushes nil */
    return 3;
}

/* ---- fetch --------------------------------------------------------------------------------------------- */

/* --- cld.download.fetch(address, path, {bytes = 0, stall = 60}) -> job: fetches a file from the network.
 * bytes: its size, if known; stall: give up after so many seconds without a byte. job:step() goes on. Programs
 * use cld.data.download. */
static int download_fetch(lua_State *L) {
    cld_fetch_settings s = {.address = check_text(L, 1), .path = check_text(L, 2)};
    lua_Integer bytes = cldL_field_integer(L, 3, "bytes", 0), stall = cldL_field_integer(L, 3, "stall", 60);
    luaL_argcheck(L, bytes >= 0 && stall > 0 && stall <= 86400, 3,
                  "expected bytes of at least 0, and stall above 0 and at most 86400");
    s.bytes = (uint64_t)bytes;
    s.stall = (int)stall;
    void **job = new_job(L, FETCH);
    *job = cld_fetch_new(&s);
    return cldL_result(L, *job);
}

static int fetch_step(lua_State *L) {
    static const char *const states[] = {"running", "complete", "failed"};
    cld_fetch_progress p;
    cldL_check_status(L, cld_fetch_step(check_job(L, FETCH), luaL_checknumber(L, 2), &p));
    return give_state(L, states[p.state], p.have, p.state == CLD_FETCH_FAILED ? p.reason : NULL);
}

static int fetch_close(lua_State *L) {
    cld_fetch_free(take_job(L, FETCH));
    return 0;
}

/* ---- checksum ------------------------------------------------------------------------------------------ */

/* --- cld.download.checksum(path) -> job: computes the file's MD5, which is the job's text when complete. */
static int download_checksum(lua_State *L) {
    const char *path = check_text(L, 1);
    void **job = new_job(L, CHECKSUM);
    *job = cld_checksum_new(path);
    return cldL_result(L, *job);
}

static int checksum_step(lua_State *L) {
    uint64_t have;
    bool done;
    char hex[33];
    cldL_check_status(L,
                      cld_checksum_step(check_job(L, CHECKSUM), luaL_checknumber(L, 2), &have, &done, hex));
    return give_state(L, done ? "complete" : "running", have, done ? hex : NULL);
}

static int checksum_close(lua_State *L) {
    cld_checksum_free(take_job(L, CHECKSUM));
    return 0;
}

/* ---- unpack -------------------------------------------------------------------------------------------- */

/* --- cld.download.unpack(archive, folder) -> job: unpacks an archive; no file goes outside the folder. */
static int download_unpack(lua_State *L) {
    const char *archive = check_text(L, 1), *folder = check_text(L, 2);
    void **job = new_job(L, UNPACK);
    *job = cld_unpack_new(archive, folder);
    return cldL_result(L, *job);
}

static int unpack_step(lua_State *L) {
    uint64_t have;
    bool done;
    cldL_check_status(L, cld_unpack_step(check_job(L, UNPACK), luaL_checknumber(L, 2), &have, &done));
    return give_state(L, done ? "complete" : "running", have, NULL);
}

static int unpack_close(lua_State *L) {
    cld_unpack_free(take_job(L, UNPACK));
    return 0;
}

/* --- cld.download.empty(folder): removes everything in it. */
static int download_empty(lua_State *L) {
    cldL_check_status(L, cld_empty_folder(check_text(L, 1)));
    return 0;
}

int cldL_open_download(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"fetch", download_fetch},
        {"checksum", download_checksum},
        {"unpack", download_unpack},
        {"empty", download_empty},
        {NULL, NULL},
    };
    const struct {
        const char *name;
        lua_CFunction step, close;
    } types[] = {{FETCH, fetch_step, fetch_close},
                 {CHECKSUM, checksum_step, checksum_close},
                 {UNPACK, unpack_step, unpack_close}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const luaL_Reg metamethods[] = {{"step", types[i].step},
                                        {"close", types[i].close},
                                        {"__gc", types[i].close},
                                        {"__close", types[i].close},
                                        {NULL, NULL}};
        luaL_newmetatable(L, types[i].name);
        luaL_setfuncs(L, metamethods, 0);
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
        lua_pop(L, 1);
    }
    luaL_newlib(L, functions);
    return 1;
}
