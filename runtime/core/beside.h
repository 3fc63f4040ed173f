/* Finds our own libraries that are loaded on demand: libcld_cuda.so, libcld_mpi.so. */
#ifndef CLD_CORE_BESIDE_H
#define CLD_CORE_BESIDE_H

#include <stdbool.h>
#include <stddef.h>

/* The path of a library: the value of the environment's `variable`, or a library beside the program (or beside the
 * module that a stock Lua has loaded), in its build folder or where `make install` or LuaRocks puts it. False if it is
 * in none of these places. */
bool cld_find_beside(char *out, size_t room, const char *library, const char *variable);

#endif
