/* One file over HTTP or HTTPS, with libcurl, in slices of time: between two slices the caller shows how far it is, and
 * stops when a person wants to.
 *
 *     cld_fetch *f = cld_fetch_new(&settings);
 *     do status = cld_fetch_step(f, 0.1, &progress); while (status == CLD_OK && progress.state == CLD_FETCH_RUNNING);
 *     cld_fetch_free(f);
 *
 * The bytes go to the end of the file at settings.path, and one that holds some already is continued (a range request).
 * The file is left as it is when the fetch is given up at any point, so that the next one continues it; an empty one is
 * removed. It begins anew if the server does not know ranges or its file has become shorter, and if it is longer than it
 * may become.
 *
 * What the network does is no error of a function but a state, since the caller knows what a person can do about it:
 * CLD_FETCH_FAILED with a reason that names neither file nor address. What the file system does (a full disk) is an
 * error as everywhere.
 *
 * Redirects are followed ten times, to http and https only. Certificates are verified. Proxies are taken from the
 * environment, as curl does (https_proxy, no_proxy, ...), but for this machine itself.
 */
#ifndef CLD_IO_DOWNLOAD_H
#define CLD_IO_DOWNLOAD_H

#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_fetch cld_fetch;

typedef struct cld_fetch_settings {
    const char *address; /* http://... or https://... */
    const char *path;    /* of the file that grows */
    uint64_t
        bytes; /* how long it is to become; 0 if that is not known. A server that announces another length
                            has another file, which is refused before it is fetched */
    int stall; /* seconds without a byte after which the fetch has failed, from its start on */
} cld_fetch_settings;

/* NULL on failure, also if cldlua was built without libcurl or does not find it: the error names the Debian package. */
cld_fetch *cld_fetch_new(const cld_fetch_settings *settings);

typedef enum cld_fetch_state { CLD_FETCH_RUNNING, CLD_FETCH_COMPLETE, CLD_FETCH_FAILED } cld_fetch_state;

typedef struct cld_fetch_progress {
    cld_fetch_state state;
    uint64_t have;      /* bytes in the file */
    const char *reason; /* why it has failed; valid until the next call */
} cld_fetch_progress;

/* Goes on for about so many seconds, or to the end. */
cld_status cld_fetch_step(cld_fetch *f, double seconds, cld_fetch_progress *progress);
void cld_fetch_free(cld_fetch *f);

#endif
