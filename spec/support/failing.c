/* An allocator that fails when told to. Our objects, linked once more with --wrap=malloc and its kin, get their memory
 * from here; Lua, oneDNN and the C library, being shared libraries, do not. allocation_spec.lua drives it.
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static atomic_long seen;           /* allocations since arm() */
static atomic_long first_bad = -1; /* the first of them that fails; -1 for none */
static atomic_long bad = 0;        /* how many fail from there on */

static bool fails(void) {
    long n = atomic_fetch_add(&seen, 1) + 1, first = atomic_load(&first_bad);
    return first > 0 && n >= first && n - first < atomic_load(&bad);
}

void *__wrap_malloc(size_t bytes) { return fails() ? NULL : malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return fails() ? NULL : calloc(count, bytes); }
void *__wrap_realloc(void *data, size_t bytes) { return fails() ? NULL : realloc(data, bytes); }
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return fails() ? NULL : aligned_alloc(alignment, bytes);
}

/* arm(first, count): from now on the first-th allocation fails, and count - 1 after it. arm() ends it. Both return
 * the number of allocations since the last call. */
static int arm(lua_State *L) {
    lua_Integer first = luaL_optinteger(L, 1, -1), count = luaL_optinteger(L, 2, 1);
    atomic_store(&first_bad, -1);
    lua_pushinteger(L, atomic_exchange(&seen, 0));
    atomic_store(&bad, (long)count);
    atomic_store(&first_bad, (long)first);
    return 1;
}

int luaopen_failing(lua_State *L) {
    lua_pushcfunction(L, arm);
    return 1;
}
