/* Libraries of ours that are loaded when they are asked for: libcld_cuda.so, libcld_mpi.so. */
#ifndef CLD_CORE_BESIDE_H
#define CLD_CORE_BESIDE_H

#include <stdbool.h>
#include <stddef.h>

/* The path of a library: what the environment's `variable` says, or the one that lies beside the program (or beside the module
 * that a stock Lua has loaded), in its build folder or as `make install` or LuaRocks puts it. False if it is in none of these. */
bool cld_find_beside(char *out, size_t room, const char *library, const char *variable);

#endif
