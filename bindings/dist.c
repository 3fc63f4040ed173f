/* cld.core.dist: the ranks of the job, collectives, the current batch. lua/cld/dist.lua is what recipes see. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bindings.h"
#include "runtime/dist/dist.h"
#include "runtime/optim/overlap.h"
#include "runtime/dist/watch.h"

/* ranks() -> {rank, local_rank (from 0), world, local_world, machines, alone, library or nil} */
static int dist_ranks(lua_State *L) {
    cld_ranks r = cld_dist_ranks();
    const struct {
        const char *name;
        int value;
    } fields[] = {{"rank", r.rank},
                  {"local_rank", r.local_rank},
                  {"world", r.world},
                  {"local_world", r.local_world},
                  {"machines", r.machines}};
    lua_createtable(L, 0, 7);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushinteger(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushboolean(L, cld_dist_alone());
    lua_setfield(L, -2, "alone");
    lua_pushstring(L, cld_dist_library()); /* nil if there is none */
    lua_setfield(L, -2, "library");
    return 1;
}

/* ---- collectives ----------------------------------------------------------------------------------------- */

/* all_reduce(t, "sum"|"mean"|"max"|"min") -> t, in place */
static int dist_all_reduce(lua_State *L) {
    static const char *const names[] = {"sum", "mean", "max", "min", NULL};
    static const cld_comm_kind kinds[] = {CLD_COMM_SUM, CLD_COMM_SUM, CLD_COMM_MAX, CLD_COMM_MIN};
    cld_tensor *x = cldL_check_tensor(L, 1);
    int op = luaL_checkoption(L, 2, "sum", names);
    bool mean = op == 1;
    luaL_argcheck(L, !mean || cld_dtype_is_float(x->a.dtype), 1, "the mean needs floats");
    cldL_check_status(L, cld_check_in_place("all_reduce", x));
    cldL_check_status(L, cld_all_reduce(&x, 1, kinds[op], mean ? 1.0 / cld_dist_ranks().world : 1));
    lua_settop(L, 1);
    return 1;
}

/* all_gather(t) -> the rows of all ranks in rank order, on the tape */
static int dist_all_gather(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_all_gather_rows(x);
    return cldL_result(L, *out);
}

/* gather_rows(t) -> the rows of the current batch, in its order, on the tape; t itself if all ranks have the same */
static int dist_gather_rows(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_gather_rows("gather_rows", x);
    return cldL_result(L, *out);
}

/* gather_group(t, here, images) -> the rows of those of the batch's groups of `images` images that have images on
 * this rank, on the tape, and the image (from 0) at which they begin. t has the rows of this rank's `here` images.
 * The rows arrive with the next join; until then nobody may touch them or t. */
static int dist_gather_group(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t first, here = luaL_checkinteger(L, 2), images = luaL_checkinteger(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_gather_group_begin(&first, "gather_group", x, here, images);
    (void)cldL_result(L, *out);
    lua_pushinteger(L, first);
    return 2;
}

/* The numbers of a list, one for each rank, in a userdata that stays on the stack. */
static const int64_t *check_rows(lua_State *L, int arg) {
    int world = cld_dist_ranks().world;
    int64_t *rows = lua_newuserdatauv(L, (size_t)world * sizeof *rows, 0);
    luaL_checktype(L, arg, LUA_TTABLE);
    for (int r = 0; r < world; r++) {
        lua_geti(L, arg, r + 1);
        rows[r] = luaL_checkinteger(L, -1);
        luaL_argcheck(L, rows[r] >= 0, arg, "expected a number of rows for each rank, at least 0");
        lua_pop(L, 1);
    }
    return rows;
}

/* all_to_all(t, {rows to each rank}, {rows from each rank}) -> the rows from all ranks, off the tape */
static int dist_all_to_all(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    const int64_t *sent = check_rows(L, 2), *received = check_rows(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_all_to_all(x, sent, received);
    return cldL_result(L, *out);
}

/* join(t) -> t: waits for all transfers begun on its device */
static int dist_join(lua_State *L) {
    cldL_check_status(L, cld_dist_join(cld_device(cldL_check_tensor(L, 1))));
    lua_settop(L, 1);
    return 1;
}

/* broadcast(t, from) -> t, in place */
static int dist_broadcast(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer from = luaL_checkinteger(L, 2);
    luaL_argcheck(L, from >= 0 && from < cld_dist_ranks().world, 2, "expected a rank, from 0");
    cldL_check_status(L, cld_check_in_place("broadcast", x));
    cldL_check_status(L, cld_broadcast(&x, 1, (int)from));
    lua_settop(L, 1);
    return 1;
}

static int dist_barrier(lua_State *L) {
    cldL_check_status(L, cld_barrier());
    return 0;
}

/* reduce_gradients({tensor, ...}): each one's .grad becomes the sum over the ranks */
static int dist_reduce_gradients(lua_State *L) {
    int count;
    cld_tensor **params = cldL_check_list(L, 1, &count);
    cldL_check_status(L, cld_reduce_gradients(params, count));
    return 0;
}

/* ---- strings --------------------------------------------------------------------------------------------- */

/* Pushes bytes from malloc and frees them, before the last call that may raise. */
static void push_bytes(lua_State *L, unsigned char *bytes, size_t size) {
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, size ? size : 1);
    memcpy(to, bytes, size);
    free(bytes);
    luaL_pushresultsize(&b, size);
}

/* broadcast_string(s) -> rank 0's string */
static int dist_broadcast_string(lua_State *L) {
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    unsigned char *bytes = malloc(size ? size : 1);
    if (!bytes) return luaL_error(L, "broadcast: out of memory");
    memcpy(bytes, s, size);
    cld_status status = cld_broadcast_bytes(&bytes, &size, 0);
    if (status != CLD_OK) free(bytes);
    cldL_check_status(L, status);
    push_bytes(L, bytes, size);
    return 1;
}

/* gather_strings(s) -> {each rank's string} */
static int dist_gather_strings(lua_State *L) {
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    int world = cld_dist_ranks().world;
    size_t *ends = lua_newuserdatauv(L, (size_t)world * sizeof *ends, 0);
    unsigned char *all = NULL;
    lua_createtable(L, world, 0);
    cld_status status = cld_gather_bytes(&all, ends, s, size);
    cldL_check_status(L, status);
    push_bytes(L, all, ends[world - 1]);
    const char *text = lua_tostring(L, -1);
    for (int r = 0; r < world; r++) {
        size_t begin = r ? ends[r - 1] : 0;
        lua_pushlstring(L, text + begin, ends[r] - begin);
        lua_seti(L, -3, r + 1);
    }
    lua_pop(L, 1);
    return 1;
}

/* agree({request, ...}) -> {for each request, the maximum over the ranks, from the previous call} */
static int dist_agree(lua_State *L) {
    int64_t wishes[CLD_WISHES], agreed[CLD_WISHES];
    luaL_checktype(L, 1, LUA_TTABLE);
    for (int i = 0; i < CLD_WISHES; i++) {
        lua_geti(L, 1, i + 1);
        wishes[i] = lua_isnil(L, -1) ? 0 : luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    cldL_check_status(L, cld_agree(wishes, agreed));
    lua_createtable(L, CLD_WISHES, 0);
    for (int i = 0; i < CLD_WISHES; i++) {
        lua_pushinteger(L, agreed[i]);
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

/* ---- the current batch ------------------------------------------------------------------------------------- */

void cldL_push_share(lua_State *L, const cld_batch_share *s) {
    lua_createtable(L, 0, 5);
    lua_pushboolean(L, s->split);
    lua_setfield(L, -2, "split");
    const struct {
        const char *name;
        int64_t value;
    } fields[] = {{"total", s->total}, {"block", s->block}, {"begin", s->begin}, {"rows", s->rows}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushinteger(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
}

static cld_batch_share check_share(lua_State *L, int arg) {
    luaL_checktype(L, arg, LUA_TTABLE);
    return (cld_batch_share){.split = cldL_field_boolean(L, arg, "split", false),
                             .total = cldL_field_integer(L, arg, "total", 0),
                             .block = cldL_field_integer(L, arg, "block", 0),
                             .begin = cldL_field_integer(L, arg, "begin", 0),
                             .rows = cldL_field_integer(L, arg, "rows", 0)};
}

/* batch() -> the current share, or nil if all ranks have the same rows */
static int dist_batch(lua_State *L) {
    cld_batch_share share = cld_batch_at_hand();
    if (!share.split) return lua_pushnil(L), 1;
    cldL_push_share(L, &share);
    return 1;
}

/* set_batch(share or nil) -> the previous one, or nil if all ranks had the same rows */
static int dist_set_batch(lua_State *L) {
    cld_batch_share before = cld_batch_at_hand();
    cld_batch_share next = {0};
    bool none = lua_isnoneornil(L, 1);
    if (!none) next = check_share(L, 1);
    cldL_check_status(L, cld_set_batch_at_hand(none ? NULL : &next));
    if (!before.split) return lua_pushnil(L), 1;
    cldL_push_share(L, &before);
    return 1;
}

/* images(op, n) -> {split, total, block, begin, rows}: which of the batch's images the n images on this rank are.
 * Error messages begin with op. */
static int dist_images(lua_State *L) {
    cld_batch_share share;
    if (cld_images_of_batch(&share, luaL_checkstring(L, 1), luaL_checkinteger(L, 2)) != CLD_OK)
        return luaL_error(L, "%s", cld_error_message());
    cldL_push_share(L, &share);
    return 1;
}

/* begin(share, rank) -> the rank's first row; for rank = world: total */
static int dist_begin(lua_State *L) {
    cld_batch_share share = check_share(L, 1);
    lua_pushinteger(
        L, cld_batch_begin(share.total, share.block, cld_dist_ranks().world, (int)luaL_checkinteger(L, 2)));
    return 1;
}

/* spans(share, block) -> whether a block has images on several ranks */
static int dist_spans(lua_State *L) {
    cld_batch_share share = check_share(L, 1);
    lua_pushboolean(L, cld_batch_spans(&share, luaL_checkinteger(L, 2)));
    return 1;
}

/* counted() -> {collectives =, bytes =, waited = seconds}, of this rank so far */
static int dist_counted(lua_State *L) {
    cld_dist_traffic t = cld_dist_counted();
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, t.collectives);
    lua_setfield(L, -2, "collectives");
    lua_pushinteger(L, t.bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushnumber(L, t.waited);
    lua_setfield(L, -2, "waited");
    return 1;
}

/* buckets() -> for gradients, so far: {begun, early (before the end of their backward), bytes} */
static int dist_buckets(lua_State *L) {
    cld_bucket_figures f = cld_dist_buckets();
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, f.begun);
    lua_setfield(L, -2, "begun");
    lua_pushinteger(L, f.early);
    lua_setfield(L, -2, "early");
    lua_pushinteger(L, f.bytes);
    lua_setfield(L, -2, "bytes");
    return 1;
}

/* set_bucket_bytes(n): must be the same on all ranks, before the first step */
static int dist_set_bucket_bytes(lua_State *L) {
    cld_set_bucket_bytes(luaL_checkinteger(L, 1));
    return 0;
}

static int dist_weight(lua_State *L) {
    lua_pushnumber(L, cld_batch_weight());
    return 1;
}

/* leave(): this rank is done; returns when all are. After that the process may end with any status */
static int dist_leave(lua_State *L) {
    (void)L;
    cld_watch_end();
    return 0;
}

/* set_timeout(seconds) -> the previous one: how long a rank may keep the others waiting; 0: no limit */
static int dist_set_timeout(lua_State *L) {
    double before = cld_watch_timeout();
    cld_watch_set_timeout(luaL_checknumber(L, 1));
    lua_pushnumber(L, before);
    return 1;
}

/* checksum(t) -> an integer, from the bits of its elements */
static int dist_checksum(lua_State *L) {
    uint64_t sum;
    cldL_check_status(L, cld_tensor_checksum(&sum, cldL_check_tensor(L, 1)));
    lua_pushinteger(L, (lua_Integer)sum);
    return 1;
}

static const luaL_Reg functions[] = {
    {"agree", dist_agree},
    {"all_gather", dist_all_gather},
    {"all_reduce", dist_all_reduce},
    {"all_to_all", dist_all_to_all},
    {"barrier", dist_barrier},
    {"batch", dist_batch},
    {"begin", dist_begin},
    {"broadcast", dist_broadcast},
    {"broadcast_string", dist_broadcast_string},
    {"buckets", dist_buckets},
    {"checksum", dist_checksum},
    {"counted", dist_counted},
    {"gather_group", dist_gather_group},
    {"gather_rows", dist_gather_rows},
    {"gather_strings", dist_gather_strings},
    {"images", dist_images},
    {"join", dist_join},
    {"leave", dist_leave},
    {"ranks", dist_ranks},
    {"reduce_gradients", dist_reduce_gradients},
    {"set_batch", dist_set_batch},
    {"set_bucket_bytes", dist_set_bucket_bytes},
    {"set_timeout", dist_set_timeout},
    {"spans", dist_spans},
    {"weight", dist_weight},
    {NULL, NULL},
};

int cldL_open_dist(lua_State *L) {
    lua_newtable(L);
    cldL_set_named(L, functions);
    return 1;
}
