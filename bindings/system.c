/* cld.set_num_threads, cld.memory, cld.clock, cld.versions, cld.interrupted, ...: the process and the
 * machine. Merged into cld itself. */
#include "bindings/bindings.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/core/beside.h"
#include "runtime/core/process.h"
#include "runtime/images/decode.h"
#include "version.h" /* by the Makefile: CLD_VERSION, CLD_COMMIT, CLD_LIBCURL and its like, "" if absent */

/* Threads beyond the cores only wait for each other, and libgomp ends the process if the system refuses one. Some are
 * still useful, to check that results do not depend on them. */
static int most_threads(void) {
    int several = 4 * cld_usable_cores();
    return several > 64 ? several : 64;
}

/* If the environment does not say, OpenMP uses the number of cores that the process could run on at its start. But a
 * rank has taken its share since then (runtime/dist/cores.h), and OpenMP does not know the quota of a control group.
 * And a small machine may have the environment of a large one. */
static void limit_threads(void) {
    const char *asked = getenv("OMP_NUM_THREADS");
    int cores = cld_usable_cores();
    if (omp_get_max_threads() > most_threads())
        fprintf(stderr, "cld: OMP_NUM_THREADS is %s on %d cores: %d threads are used\n",
                asked ? asked : "too many", cores, cores);
    else if (asked)
        return;
    omp_set_num_threads(cores);
}

/* --- cld.set_num_threads(n): sets the number of threads of the numerical kernels; 0 means one for each usable
 * core. The loader's workers are a separate option. */
static int system_set_num_threads(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 1);
    if (n < 0 || n > most_threads())
        return luaL_error(L, "set_num_threads: %I threads on %d cores; expected 0 (one per core) to %d", n,
                          cld_usable_cores(), most_threads());
    omp_set_num_threads(n ? (int)n : cld_usable_cores());
    return 0;
}

/* --- cld.get_num_threads() -> integer: how many threads the numerical kernels use. */
static int system_get_num_threads(lua_State *L) {
    lua_pushinteger(L, omp_get_max_threads());
    return 1;
}

/* --- cld.memory() -> {in_use =, peak =, reserved =, limit =, resident =, resident_peak =}: in bytes, for the
 * tensors on the cpu, and for the whole process. */
static int system_memory(lua_State *L) {
    cld_resident resident = cld_resident_memory();
    cldL_push_memory(L, cld_cpu_backend()->memory->info());
    lua_pushinteger(L, (lua_Integer)resident.now);
    lua_setfield(L, -2, "resident");
    lua_pushinteger(L, (lua_Integer)resident.peak);
    lua_setfield(L, -2, "resident_peak");
    return 1;
}

/* --- cld.reset_peak(): restarts cld.memory().peak from the memory now in use. */
static int system_reset_peak(lua_State *L) {
    cldL_check_count(L, 0);
    cld_cpu_backend()->memory->reset_peak();
    return 0;
}

/* --- cld.clock() -> seconds: from an arbitrary start, never backwards; for measuring times. */
static int system_clock(lua_State *L) {
    lua_pushnumber(L, cld_clock());
    return 1;
}

/* --- cld.versions() -> {cldlua =, commit =, lua =, cpu_library =, ...}: the version of this build, and of what
 * it was built with. */
static int system_versions(lua_State *L) {
    const char *const fields[][2] = {
        {"cldlua", CLD_VERSION},
        {"commit", CLD_COMMIT},
        {"lua", LUA_RELEASE},
        {"cpu_library", cld_cpu_backend()->library()},
        {"images", cld_picture_libraries()},
        {"jansson", jansson_version_str()},
        {"compiler", "gcc " __VERSION__},
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushstring(L, fields[i][1]);
        lua_setfield(L, -2, fields[i][0]);
    }
    return 1;
}

/* --- cld.host() -> {name =, cpu =, cores =, pid =}: the machine and the process. */
static int system_host(lua_State *L) {
    cld_host host = cld_host_facts();
    lua_newtable(L);
    lua_pushstring(L, host.name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, host.cpu);
    lua_setfield(L, -2, "cpu");
    lua_pushinteger(L, host.cores);
    lua_setfield(L, -2, "cores");
    lua_pushinteger(L, host.pid);
    lua_setfield(L, -2, "pid");
    return 1;
}

/* --- cld.control_groups([root]) -> {memory =, cores =}: the limits set by Linux's control groups, in bytes
 * and cores; nil if there are none. */
static int system_control_groups(lua_State *L) {
    cld_control_groups groups = cld_control_group_limits(luaL_optstring(L, 1, ""));
    lua_newtable(L);
    if (groups.memory != SIZE_MAX) {
        lua_pushinteger(L, (lua_Integer)groups.memory);
        lua_setfield(L, -2, "memory");
    }
    if (isfinite(groups.cores)) {
        lua_pushnumber(L, groups.cores);
        lua_setfield(L, -2, "cores");
    }
    return 1;
}

/* --- cld.edit_distance(a, b) -> integer: how many letters to change (Levenshtein), for "did you mean". */
static int system_edit_distance(lua_State *L) {
    lua_pushinteger(L, cldL_edit_distance(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

/* --- cld.check_fields(function's name, options or nil, {name, ...}): an error if options has a field that is
 * not among the names; it suggests the nearest name. */
static int system_check_fields(lua_State *L) {
    const char *function = luaL_checkstring(L, 1), *names[64];
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_Integer count = luaL_len(L, 3);
    luaL_argcheck(L, count > 0 && count < 64, 3, "expected 1 to 63 names");
    luaL_checkstack(L, (int)count, "names");
    for (lua_Integer i = 0; i < count; i++) {
        lua_geti(L, 3, i + 1); /* stays on the stack: anchored */
        names[i] = luaL_checkstring(L, -1);
    }
    names[count] = NULL;
    cldL_check_fields(L, 2, function, names);
    return 0;
}

/* --- cld.terminal() -> integer or nil: the columns of standard output, if it is a terminal whose cursor can be
 * moved. */
static int system_terminal(lua_State *L) {
    if (!cld_terminal()) return 0;
    lua_pushinteger(L, cld_terminal_columns());
    return 1;
}

/* --- cld.terminal_rows() -> standard output's height in rows; 24 if it is not a terminal or does not say */
static int system_terminal_rows(lua_State *L) {
    lua_pushinteger(L, cld_terminal_rows());
    return 1;
}

/* --- cld.sleep(seconds): waits that long, at most 11 days, or until a signal comes that is handled */
static int system_sleep(lua_State *L) {
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "expected a number of seconds");
    cld_sleep(seconds);
    return 0;
}

/* --- cld.catch_signals([{interrupt = true}]): until cld.restore_signals, a signal that asks the process to
 * end (INT, TERM, HUP, PIPE, USR1, ...) only sets what cld.interrupted returns; after it a second INT ends the
 * process at once. interrupt = false: INT keeps its effect. */
static int system_catch_signals(lua_State *L) {
    static const char *const names[] = {"interrupt", NULL};
    cldL_check_fields(L, 1, "catch_signals", names);
    cld_catch_signals(cldL_field_boolean(L, 1, "interrupt", true) ? CLD_ALL_STOP_SIGNALS
                                                                  : CLD_ALL_BUT_SIGINT);
    return 0;
}

/* --- cld.restore_signals(): signals do again what they did before cld.catch_signals. */
static int system_restore_signals(lua_State *L) {
    (void)L;
    cld_restore_signals();
    return 0;
}

/* --- cld.interrupted() -> name, number, or nil: the signal that has come since cld.catch_signals, such as
 * "INT". */
static int system_interrupted(lua_State *L) {
    int number = cld_interrupted();
    if (!number) return 0;
    lua_pushstring(L, cld_signal_name(number));
    lua_pushinteger(L, number);
    return 2;
}

/* --- cld.signal_name(number) -> name: "INT" for 2. */
static int system_signal_name(lua_State *L) {
    const char *name = cld_signal_name((int)luaL_checkinteger(L, 1));
    lua_pushstring(L, name ? name : "?");
    return 1;
}

/* --- cld.leave_on_signals(): INT and TERM end the process at once, until they are caught. */
static int system_leave_on_signals(lua_State *L) {
    (void)L;
    cld_leave_on_signals();
    return 0;
}

/* --- cld.built_with() -> {libedit, libcurl, libarchive, protobuf_c, mpi, cuda, mpi_library, cuda_library}: for each
 * optional library, the version that this was built with, as text; nil if it was built without. mpi_library and
 * cuda_library are the paths of libcld_mpi.so and libcld_cuda.so as they would be loaded, nil if the files do not
 * exist; neither is loaded.
 *
 *     print(cld.built_with().libcurl or "no downloads")
 */
static int system_built_with(lua_State *L) {
    static const char *const versions[][2] = {
        {"libedit", CLD_LIBEDIT},       {"libcurl", CLD_LIBCURL}, {"libarchive", CLD_LIBARCHIVE},
        {"protobuf_c", CLD_PROTOBUF_C}, {"mpi", CLD_MPI},         {"cuda", CLD_CUDA},
    };
    static const char *const libraries[][3] = {
        {"mpi_library", "libcld_mpi.so", "CLD_MPI_PLUGIN"},
        {"cuda_library", "libcld_cuda.so", "CLD_CUDA_PLUGIN"},
    };
    char path[PATH_MAX];
    lua_newtable(L);
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        if (!versions[i][1][0]) continue;
        lua_pushstring(L, versions[i][1]);
        lua_setfield(L, -2, versions[i][0]);
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        if (!cld_find_beside(path, sizeof path, libraries[i][1], libraries[i][2])) continue;
        lua_pushstring(L, path);
        lua_setfield(L, -2, libraries[i][0]);
    }
    return 1;
}

int cldL_open_system(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"set_num_threads", system_set_num_threads},
        {"get_num_threads", system_get_num_threads},
        {"memory", system_memory},
        {"reset_peak", system_reset_peak},
        {"clock", system_clock},
        {"versions", system_versions},
        {"built_with", system_built_with},
        {"host", system_host},
        {"control_groups", system_control_groups},
        {"terminal", system_terminal},
        {"terminal_rows", system_terminal_rows},
        {"sleep", system_sleep},
        {"edit_distance", system_edit_distance},
        {"check_fields", system_check_fields},
        {"catch_signals", system_catch_signals},
        {"restore_signals", system_restore_signals},
        {"interrupted", system_interrupted},
        {"signal_name", system_signal_name},
        {"leave_on_signals", system_leave_on_signals},
        {NULL, NULL},
    };
    limit_threads();
    luaL_newlib(L, functions);
    return 1;
}
