/* Random tensors. All draw from one generator, (seed, position): cld.manual_seed(n) starts it anew, and its state goes
 * into checkpoints. Each element takes one position, so results depend neither on threads nor on the device. */
#include "bindings/tensor.h"
#include "runtime/core/philox.h"

typedef cld_status filler(cld_tensor *x, double a, double b);

/* ---- new tensors --------------------------------------------------------------------------------------- */

/* Push a tensor with o's dtype and device, filled by f(0, 1). */
static int push_filled(lua_State *L, filler *f, int ndim, const int64_t *shape, const cldL_options *o) {
    cld_tensor **out = cldL_new_tensor(L);
    if (!cld_dtype_is_float(o->dtype))
        return luaL_error(L, "%s: expected a floating-point dtype, got %s; randint makes integers",
                          cldL_name(L), cld_dtype_name(o->dtype));
    *out = cld_tensor_new(o->dtype, ndim, shape, o->device);
    if (!*out) return cldL_raise(L);
    cldL_check_status(L, f(*out, 0, 1));
    return cldL_finish(L, out, o);
}

static int random_new(lua_State *L, filler *f) {
    int64_t shape[CLD_MAX_DIMS];
    cldL_options o = {.dtype = CLD_F32, .device = cld_cpu_backend()};
    int ndim = cldL_check_shape_and_options(L, 1, shape, &o);
    return push_filled(L, f, ndim, shape, &o);
}

static int random_like(lua_State *L, filler *f) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    cldL_options o = {.dtype = x->a.dtype, .device = cld_device(x)};
    cldL_check_options(L, 2, &o);
    return push_filled(L, f, x->a.ndim, x->a.shape, &o);
}

/* --- cld.rand(n, m, ...[, options]) -> tensor: uniform in [0, 1), from the one generator that
 * cld.manual_seed starts. Each element takes one position of it, so results depend on neither threads nor
 * device. Shape and options as cld.zeros. */
static int random_rand(lua_State *L) { return random_new(L, cld_uniform_); }
/* --- cld.randn(n, m, ...[, options]) -> tensor: from the normal distribution N(0, 1), as rand. */
static int random_randn(lua_State *L) { return random_new(L, cld_normal_); }
/* --- cld.rand_like(x[, options]) -> tensor: rand with x's shape, dtype and device. */
static int random_rand_like(lua_State *L) { return random_like(L, cld_uniform_); }
/* --- cld.randn_like(x[, options]) -> tensor: randn with x's shape, dtype and device. */
static int random_randn_like(lua_State *L) { return random_like(L, cld_normal_); }

/* --- cld.randint(low, high, shape[, options]) -> tensor: integers from low to high - 1, i64. */
static int random_randint(lua_State *L) {
    int64_t shape[CLD_MAX_DIMS];
    lua_Integer low = luaL_checkinteger(L, 1), high = luaL_checkinteger(L, 2);
    cldL_options o = {.dtype = CLD_I64, .device = cld_cpu_backend()};
    int ndim = cldL_check_shape_and_options(L, 3, shape, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_randint(o.dtype, ndim, shape, low, high, o.device);
    return cldL_finish(L, out, &o);
}

/* --- cld.randperm(n[, options]) -> tensor: 0 to n - 1 in random order, i64. */
static int random_randperm(lua_State *L) {
    cldL_check_count(L, 2);
    lua_Integer n = luaL_checkinteger(L, 1);
    cldL_options o = {.dtype = CLD_I64, .device = cld_cpu_backend()};
    cldL_check_options(L, 2, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_randperm(o.dtype, n, o.device);
    return cldL_finish(L, out, &o);
}

/* ---- the generator ------------------------------------------------------------------------------------- */

/* The kernels of a captured graph keep the seed that they were captured with. */
static void check_may_seed(lua_State *L) {
    if (cld_capturing())
        luaL_error(L, "the generator cannot be set in a captured step: a replay only continues its numbers");
}

/* --- cld.manual_seed(seed): restarts the generator of all random numbers. Not in a captured step.
 *
 *     cld.manual_seed(1)
 *     local a = cld.rand(3)
 *     cld.manual_seed(1)
 *     print(a:allclose(cld.rand(3)))            --> true */
static int random_manual_seed(lua_State *L) {
    check_may_seed(L);
    cld_set_generator((cld_generator){.seed = (uint64_t)luaL_checkinteger(L, 1)});
    return 0;
}

/* --- cld.get_rng_state() -> {seed =, position =}: where the generator stands. */
static int random_get_state(lua_State *L) {
    cld_generator g = cld_get_generator();
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)g.seed);
    lua_setfield(L, -2, "seed");
    lua_pushinteger(L, (lua_Integer)g.position);
    lua_setfield(L, -2, "position");
    return 1;
}

/* --- cld.set_rng_state{seed =, position =}: restores a state from get_rng_state. */
static int random_set_state(lua_State *L) {
    static const char *const names[] = {"seed", "position", NULL};
    check_may_seed(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    cldL_check_fields(L, 1, "set_rng_state", names);
    cld_set_generator((cld_generator){.seed = (uint64_t)cldL_field_integer(L, 1, "seed", 0),
                                      .position = (uint64_t)cldL_field_integer(L, 1, "position", 0)});
    return 0;
}

/* --- cld.philox({k0, k1}, {c0, c1, c2, c3}) -> {w0, w1, w2, w3}: the block function (Philox 4x32-10, Salmon
 * et al., 2011) that all random numbers come from, so that its known answers can be checked. */
static int random_philox(lua_State *L) {
    uint32_t words[2][4], out[4];
    for (int arg = 1; arg <= 2; arg++) {
        luaL_checktype(L, arg, LUA_TTABLE);
        for (int i = 0; i < 2 * arg; i++) {
            lua_geti(L, arg, i + 1);
            words[arg - 1][i] = (uint32_t)luaL_checkinteger(L, -1);
            lua_pop(L, 1);
        }
    }
    cld_philox_block(words[0], words[1], out);
    lua_createtable(L, 4, 0);
    for (int i = 0; i < 4; i++) {
        lua_pushinteger(L, out[i]);
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

const luaL_Reg cldL_random_functions[] = {
    {"rand", random_rand},
    {"randn", random_randn},
    {"rand_like", random_rand_like},
    {"randn_like", random_randn_like},
    {"randint", random_randint},
    {"randperm", random_randperm},
    {"manual_seed", random_manual_seed},
    {"get_rng_state", random_get_state},
    {"set_rng_state", random_set_state},
    {"philox", random_philox},
    {NULL, NULL},
};

/* ---- filling ------------------------------------------------------------------------------------------- */

static int fill_with(lua_State *L, const char *name, filler *f) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    double a = luaL_optnumber(L, 2, 0), b = luaL_optnumber(L, 3, 1);
    cldL_check_status(L, cld_check_in_place(name, x));
    cldL_check_status(L, f(x, a, b));
    lua_settop(L, 1);
    return 1;
}

/* --- x:uniform_([low = 0[, high = 1]]) -> x: fills x with uniform numbers in [low, high). */
static int random_uniform(lua_State *L) { return fill_with(L, "uniform_", cld_uniform_); }
/* --- x:normal_([mean = 0[, std = 1]]) -> x: fills x with numbers from N(mean, std^2). */
static int random_normal(lua_State *L) { return fill_with(L, "normal_", cld_normal_); }

const luaL_Reg cldL_random_methods[] = {
    {"uniform_", random_uniform},
    {"normal_", random_normal},
    {NULL, NULL},
};
