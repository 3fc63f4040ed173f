/* Shared libraries that are loaded when they are first needed.
 *
 * libcurl brings thirty other libraries with it: linking with it adds 12 ms to a program's start (5 ms without it),
 * whether or not it ever fetches anything. So we compile against the headers of libcurl and libarchive, for their
 * types, and load the libraries on first use:
 *
 *     #define FUNCTIONS(X) X(curl_easy_init) X(curl_easy_perform)
 *     static struct { FUNCTIONS(CLD_LIBRARY_MEMBER) } curl;           // curl.curl_easy_init() calls it
 *     static const char *const names[] = {FUNCTIONS(CLD_LIBRARY_NAME)};
 *     CLD_TRY(cld_library_load("libcurl.so.4", "libcurl4", names, (void **)&curl, sizeof names / sizeof *names));
 */
#ifndef CLD_IO_LIBRARY_H
#define CLD_IO_LIBRARY_H

#include <stddef.h>

#include "runtime/core/error.h"

#define CLD_LIBRARY_MEMBER(function) __typeof__(function) *function;
#define CLD_LIBRARY_NAME(function)   #function,

/* Sets functions[i] to the function called names[i]; a repeated call does nothing. The error names the Debian package.
 * A library stays loaded, because its own threads and exit handlers may still run. */
cld_status cld_library_load(const char *file, const char *package, const char *const *names, void **functions,
                            size_t count);

#endif
