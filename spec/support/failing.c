/* An allocator that fails on demand: either only for our own objects, which are linked again with --wrap=malloc and
 * similar, or for the whole process with all its libraries, which use its malloc too, because this library is loaded
 * before the C library. allocation_spec.lua drives it.
 */
#define _GNU_SOURCE
#include <lauxlib.h>
#include <lua.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OURS = 1, WHOLE = 2 };

static atomic_int counted = OURS;  /* which allocations count */
static atomic_long seen;           /* number of those since arm() */
static atomic_long first_bad = -1; /* the first of them that fails; -1 for none */
static atomic_long bad = 0;        /* how many fail from there on */

static bool fails(int whose) {
    if (!(atomic_load(&counted) & whose)) return false;
    long n = atomic_fetch_add(&seen, 1) + 1, first = atomic_load(&first_bad);
    bool failed = first > 0 && n >= first && n - first < atomic_load(&bad);
    if (failed) errno = ENOMEM;
    return failed;
}

#if defined(__SANITIZE_ADDRESS__) /* the sanitizer has its own malloc for the process */
#    define BASE(name)    name
#    define base_memalign aligned_alloc
#else
#    define BASE(name)    __libc_##name
#    define base_memalign __libc_memalign
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *data, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes) { return fails(WHOLE) ? NULL : __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { return fails(WHOLE) ? NULL : __libc_calloc(count, bytes); }
void *realloc(void *data, size_t bytes) { return fails(WHOLE) ? NULL : __libc_realloc(data, bytes); }
void *memalign(size_t alignment, size_t bytes) {
    return fails(WHOLE) ? NULL : __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **out, size_t alignment, size_t bytes) {
    void *data = memalign(alignment, bytes);
    if (!data) return ENOMEM;
    *out = data;
    return 0;
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset) {
    if ((flags & MAP_ANONYMOUS) && fails(WHOLE)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, bytes, protection, flags, fd, offset);
}
#endif

void *__wrap_malloc(size_t bytes) { return fails(OURS | WHOLE) ? NULL : BASE(malloc)(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) {
    return fails(OURS | WHOLE) ? NULL : BASE(calloc)(count, bytes);
}
void *__wrap_realloc(void *data, size_t bytes) {
    return fails(OURS | WHOLE) ? NULL : BASE(realloc)(data, bytes);
}
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return fails(OURS | WHOLE) ? NULL : base_memalign(alignment, bytes);
}

/* arm(first, count, "ours" | "whole"): from now on allocation number `first`, of ours or of the whole process, and the
 * next count - 1 fail. arm() ends this. Both return the number of allocations since the last call. */
static int arm(lua_State *L) {
    static const char *const names[] = {"ours", "whole", NULL};
    lua_Integer first = luaL_optinteger(L, 1, -1), count = luaL_optinteger(L, 2, 1);
    int whose = luaL_checkoption(L, 3, "ours", names) ? WHOLE : OURS;
    atomic_store(&first_bad, -1);
    lua_pushinteger(L, atomic_exchange(&seen, 0));
    atomic_store(&counted, whose);
    atomic_store(&bad, (long)count);
    atomic_store(&first_bad, (long)first);
    return 1;
}

static void be_child(lua_State *L, int out) {
    struct rlimit none = {0, 0};
    size_t length;
    setrlimit(RLIMIT_CORE, &none);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    bool ok = lua_pcall(L, 0, 1, 0) == LUA_OK;
    atomic_store(&first_bad, -1);
    const char *text = lua_tolstring(L, -1, &length);
    if (text && write(out, text, length) < 0) _exit(1);
    _exit(ok ? 0 : 1);
}

/* child(f) -> the status of a child process that has called f, or minus the number of the signal that ended it; and its
 * output, ending with the string that f returned, or its error. */
static int child(lua_State *L) {
    int ends[2], status;
    char piece[4096];
    ssize_t length;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    if (pipe(ends) != 0) return luaL_error(L, "no pipe");
    pid_t pid = fork();
    if (pid < 0) return luaL_error(L, "no child");
    if (pid == 0) be_child(L, ends[1]);
    close(ends[1]);
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    while ((length = read(ends[0], piece, sizeof piece)) > 0) luaL_addlstring(&text, piece, (size_t)length);
    close(ends[0]);
    if (waitpid(pid, &status, 0) != pid) return luaL_error(L, "lost a child");
    luaL_pushresult(&text);
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    lua_insert(L, -2);
    return 2;
}

int luaopen_failing(lua_State *L) {
    static const luaL_Reg functions[] = {{"arm", arm}, {"child", child}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
