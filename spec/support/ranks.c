/* Runs the ranks of a job one after the other in one process. The interpreter is linked again with
 * --wrap=cld_all_reduce, and the sums over processes are computed here: every rank's work runs once for each of its
 * collectives, and once more.
 *
 *     for pass = 0, collectives do
 *       for rank = 1, world do
 *         ranks.start(pass)  -- collectives before number `pass` return the results of earlier runs, that one
 *         work(rank)         -- adds this rank's values, and later ones are meaningless
 *       end
 *     end
 */
#include "runtime/dist/dist.h"

#include <lauxlib.h>
#include <stdlib.h>

enum { MOST = 8 };

static double *totals[MOST];
static size_t sizes[MOST]; /* bytes */
static int pass, at;

/* Adds this rank's values to those of the ranks before it. */
static cld_status add(const cld_tensor *x, int call, size_t bytes) {
    if (!totals[call]) {
        totals[call] = calloc(1, bytes);
        sizes[call] = bytes;
    }
    double *mine = malloc(bytes);
    cld_status status = x->storage->device->memory->to_host(mine, x->a.data, bytes);
    for (size_t i = 0; i < bytes / sizeof *mine; i++) totals[call][i] += mine[i];
    free(mine);
    return status;
}

cld_status __wrap_cld_all_reduce(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale);
cld_status __wrap_cld_all_reduce(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale) {
    const cld_tensor *x = xs[0];
    size_t bytes = (size_t)cld_numel(&x->a) * sizeof(double);
    int call = at++;
    if (count != 1 || kind != CLD_COMM_SUM || !(scale == 1) || x->a.dtype != CLD_F64 || call >= MOST ||
        (totals[call] && sizes[call] != bytes))
        abort();
    if (call > pass) return CLD_OK;
    if (call == pass) return add(x, call, bytes);
    return x->storage->device->memory->from_host(x->a.data, totals[call], bytes);
}

static int start(lua_State *L) {
    pass = (int)luaL_checkinteger(L, 1);
    at = 0;
    return 0;
}

/* calls() -> the number of collectives since start() */
static int calls(lua_State *L) {
    lua_pushinteger(L, at);
    return 1;
}

static int forget(lua_State *L) {
    (void)L;
    for (int i = 0; i < MOST; i++) {
        free(totals[i]);
        totals[i] = NULL;
    }
    return 0;
}

int luaopen_ranks(lua_State *L);
int luaopen_ranks(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"start", start}, {"calls", calls}, {"forget", forget}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
