/* Downloads one file over HTTP or HTTPS with libcurl, in time slices: between two slices the caller shows the progress,
 * and stops if the user wants to.
 *
 *     cld_fetch *f = cld_fetch_new(&settings);
 *     do status = cld_fetch_step(f, 0.1, &progress); while (status == CLD_OK && progress.state == CLD_FETCH_RUNNING);
 *     cld_fetch_free(f);
 *
 * The bytes are appended to the file at settings.path: if it already holds some, the download continues there (a range
 * request). If the fetch is abandoned at any point, the file stays as it is for the next fetch to continue; an empty
 * file is removed. The download starts again from the beginning if the server does not support ranges, if the server's
 * file has become shorter, or if the local file is longer than expected.
 *
 * A network failure is not an error of a function but a state, since the caller knows what the user can do about it:
 * CLD_FETCH_FAILED with a reason that names neither file nor address. A file system failure (a full disk) is an error,
 * as everywhere.
 *
 * At most ten redirects are followed, to http and https only. Certificates are verified. Proxies come from the
 * environment, as in curl (https_proxy, no_proxy, ...), except for this machine itself.
 */
#ifndef CLD_IO_DOWNLOAD_H
#define CLD_IO_DOWNLOAD_H

#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_fetch cld_fetch;

typedef struct cld_fetch_settings {
    const char *address; /* http://... or https://... */
    const char *path;    /* of the file to write */
    uint64_t bytes;      /* its expected length; 0: unknown. A server that announces another is refused */
    int stall;           /* the fetch fails after this many seconds without a byte, from its start on */
} cld_fetch_settings;

/* NULL on failure. If cldlua was built without libcurl or does not find it, the error names the Debian package. */
cld_fetch *cld_fetch_new(const cld_fetch_settings *settings);

typedef enum cld_fetch_state { CLD_FETCH_RUNNING, CLD_FETCH_COMPLETE, CLD_FETCH_FAILED } cld_fetch_state;

typedef struct cld_fetch_progress {
    cld_fetch_state state;
    uint64_t have;      /* bytes in the file */
    const char *reason; /* why it has failed; valid until the next call */
} cld_fetch_progress;

/* Continues for about this many seconds, or to the end. */
cld_status cld_fetch_step(cld_fetch *f, double seconds, cld_fetch_progress *progress);
void cld_fetch_free(cld_fetch *f);

#endif
