/* Downloads one file over HTTP with libcurl's multi interface, which returns to us many times a second. What a response
 * is (a part, the whole, an error page, another file) is decided once, at its first byte, by accept_response(). */
#define _GNU_SOURCE
#include "runtime/io/download.h"

#ifndef CLD_HAVE_CURL

cld_fetch *cld_fetch_new(const cld_fetch_settings *settings) {
    (void)settings;
    return cld_fail_null(CLD_UNSUPPORTED, "cldlua was built without libcurl, which fetches files; install "
                                          "libcurl4-openssl-dev (Debian) and run make again");
}
cld_status cld_fetch_step(cld_fetch *f, double seconds, cld_fetch_progress *progress) {
    (void)f, (void)seconds, (void)progress;
    return CLD_UNSUPPORTED;
}
void cld_fetch_free(cld_fetch *f) { (void)f; }

#else

#    define CURL_DISABLE_TYPECHECK
#    include <curl/curl.h>
#    undef curl_easy_setopt /* type-checking macros of the same names */
#    undef curl_easy_getinfo
#    include <errno.h>
#    include <fcntl.h>
#    include <inttypes.h>
#    include <stdbool.h>
#    include <stdio.h>
#    include <stdlib.h>
#    include <string.h>
#    include <strings.h>
#    include <sys/stat.h>
#    include <unistd.h>

#    include "runtime/core/process.h"
#    include "runtime/core/text.h"
#    include "runtime/io/library.h"

/* clang-format off */
# define FUNCTIONS(X) \
    X(curl_global_init) X(curl_easy_init) X(curl_easy_setopt) X(curl_easy_getinfo) X(curl_easy_strerror) \
    X(curl_easy_cleanup) X(curl_multi_init) X(curl_multi_add_handle) X(curl_multi_remove_handle) \
    X(curl_multi_perform) X(curl_multi_poll) X(curl_multi_info_read) X(curl_multi_cleanup) X(curl_multi_strerror)
/* clang-format on */
static struct { FUNCTIONS(CLD_LIBRARY_MEMBER) } curl;
static const char *const names[] = {FUNCTIONS(CLD_LIBRARY_NAME)};

#    define UNKNOWN UINT64_MAX
enum { MOST_REDIRECTS = 10 };

struct cld_fetch {
    CURLM *multi;
    CURL *easy;
    char *path;
    int fd;
    uint64_t bytes; /* expected; 0: unknown */
    uint64_t have;
    int stall;
    double heard;    /* when data last arrived */
    bool is_file;    /* a regular file is open */
    bool from_start; /* start again, whatever the file holds */
    bool done;
    cld_status status;                /* of the file system; the message is in the thread's error record */
    char problem[CURL_ERROR_SIZE];    /* curl's error text */
    char reason[CURL_ERROR_SIZE * 4]; /* our error text; "" until the fetch has failed */
    /* of the current response */
    bool accepted, page;
    uint64_t range_start, range_total; /* Content-Range */
};

/* ---- the file ------------------------------------------------------------------------------------------ */

static cld_status fail_errno(cld_fetch *f, const char *doing) {
    return f->status = cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot %s '%s': %s", doing, f->path,
                                strerror(errno));
}

static bool begin_anew(cld_fetch *f) {
    if (ftruncate(f->fd, 0) != 0) return fail_errno(f, "empty"), false;
    f->have = 0;
    return true;
}

static cld_status open_file(cld_fetch *f) {
    struct stat facts;
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (f->fd < 0 || fstat(f->fd, &facts) != 0) return fail_errno(f, "write");
    if (!S_ISREG(facts.st_mode))
        return f->status = cld_fail(CLD_IO, "cannot write '%s': it is not a regular file", f->path);
    f->is_file = true;
    f->have = (uint64_t)facts.st_size;
    if (f->bytes && f->have > f->bytes && !begin_anew(f)) return f->status;
    return CLD_OK;
}

static bool append(cld_fetch *f, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t put = pwrite(f->fd, data, bytes, (off_t)f->have);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_errno(f, "write"), false;
        data += put, bytes -= (size_t)put, f->have += (uint64_t)put;
    }
    return true;
}

/* ---- the response -------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool refuse(cld_fetch *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    cld_vformat(f->reason, sizeof f->reason, format, args);
    va_end(args);
    return false;
}

static bool refuse_code(cld_fetch *f, long code) {
    return code == 404 || code == 410   ? refuse(f, "the server has no such file (%ld)", code)
           : code == 401 || code == 403 ? refuse(f, "the server denies access to it (%ld)", code)
           : code >= 500                ? refuse(f, "the server reports an error of its own (%ld)", code)
                                        : refuse(f, "the server answered with status %ld", code);
}

static bool refuse_length(cld_fetch *f, uint64_t length) {
    return refuse(f, "the server has another file: %" PRIu64 " bytes long, expected %" PRIu64, length,
                  f->bytes);
}

/* Whether the response's body belongs in the file. Called at its first byte, or at its end if it has none. */
static bool accept_response(cld_fetch *f) {
    long code = 0;
    curl_off_t length = -1;
    if (f->accepted) return true;
    curl.curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &code);
    curl.curl_easy_getinfo(f->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (code == 206) {
        if (f->bytes && f->range_total != UNKNOWN && f->range_total != f->bytes)
            return refuse_length(f, f->range_total);
        if (f->range_start != f->have)
            return f->have > 0 ? f->from_start = true, false : refuse_code(f, code);
    } else if (code == 416 && f->have > 0) {
        return f->from_start = true, false;
    } else if (code != 200) {
        return refuse_code(f, code);
    } else if (f->page) {
        return refuse(f, "the server sent a web page, not the file");
    } else {
        if (f->bytes && length >= 0 && (uint64_t)length != f->bytes)
            return refuse_length(f, (uint64_t)length);
        if (f->have > 0 && !begin_anew(f)) return false;
    }
    return f->accepted = true;
}

static void number_after(const char *text, char mark, uint64_t *out) {
    const char *at = strchr(text, mark);
    if (at && at[1] >= '0' && at[1] <= '9') *out = strtoull(at + 1, NULL, 10);
}

/* A header line, without a zero byte at its end. A redirect's lines come first, then those of the next response. */
static size_t on_header(char *data, size_t size, size_t count, void *user) {
    cld_fetch *f = user;
    char line[256];
    size_t bytes = size * count, length = bytes < sizeof line ? bytes : sizeof line - 1;
    f->heard = cld_clock();
    memcpy(line, data, length);
    line[length] = 0;
    if (strncasecmp(line, "HTTP/", 5) == 0) {
        f->page = false;
        f->range_start = f->range_total = UNKNOWN;
    } else if (strncasecmp(line, "Content-Type:", 13) == 0) {
        f->page = strcasestr(line, "text/html") != NULL;
    } else if (strncasecmp(line, "Content-Range:", 14) == 0) { /* bytes 100-999/1000 */
        const char *unit = strcasestr(line, "bytes");
        if (unit) number_after(unit, ' ', &f->range_start);
        number_after(line, '/', &f->range_total);
    }
    return bytes;
}

static size_t on_data(char *data, size_t size, size_t count, void *user) {
    cld_fetch *f = user;
    size_t bytes = size * count;
    f->heard = cld_clock();
    if (!accept_response(f)) return 0;
    if (f->bytes && bytes > f->bytes - f->have) {
        if (begin_anew(f)) refuse(f, "the server has another file: longer than %" PRIu64 " bytes", f->bytes);
        return 0;
    }
    return append(f, data, bytes) ? bytes : 0;
}

/* ---- the transfer -------------------------------------------------------------------------------------- */

/* Whether this is our own machine: we never use a proxy for it, whatever the environment says. */
static bool is_own(const char *address) {
    static const char *const hosts[] = {"http://127.0.0.1:", "http://127.0.0.1/",
                                        "http://localhost:", "http://localhost/"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        if (strncasecmp(address, hosts[i], strlen(hosts[i])) == 0) return true;
    return false;
}

static void set_options(cld_fetch *f, const char *address) {
    CURL *e = f->easy;
    __typeof__(curl.curl_easy_setopt) set = curl.curl_easy_setopt;
    set(e, CURLOPT_URL, address);
    set(e, CURLOPT_USERAGENT, "cldlua");
    if (is_own(address)) set(e, CURLOPT_PROXY, "");
    set(e, CURLOPT_FOLLOWLOCATION, 1L);
    set(e, CURLOPT_MAXREDIRS, (long)MOST_REDIRECTS);
#    if LIBCURL_VERSION_NUM >= 0x075500
    set(e, CURLOPT_PROTOCOLS_STR, "http,https");
    set(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#    else
    set(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(e, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#    endif
#    if LIBCURL_VERSION_NUM >= 0x075700
    set(e, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a name server when the user wants to stop */
#    endif
    set(e, CURLOPT_NOSIGNAL, 1L);
    set(e, CURLOPT_ERRORBUFFER, f->problem);
    set(e, CURLOPT_HEADERFUNCTION, on_header);
    set(e, CURLOPT_HEADERDATA, f);
    set(e, CURLOPT_WRITEFUNCTION, on_data);
    set(e, CURLOPT_WRITEDATA, f);
}

/* Requests what is missing. */
static cld_status start(cld_fetch *f) {
    char range[32];
    snprintf(range, sizeof range, "%" PRIu64 "-", f->have);
    curl.curl_easy_setopt(f->easy, CURLOPT_RANGE, f->have > 0 ? range : (char *)NULL);
    f->accepted = f->page = f->from_start = false;
    f->range_start = f->range_total = UNKNOWN;
    f->problem[0] = f->reason[0] = 0;
    f->heard = cld_clock();
    CURLMcode code = curl.curl_multi_add_handle(f->multi, f->easy);
    if (code == CURLM_OK) return CLD_OK;
    return f->status = cld_fail(CLD_BACKEND, "libcurl: %s", curl.curl_multi_strerror(code));
}

static void explain(cld_fetch *f, CURLcode result) {
    const char *words = f->problem[0] ? f->problem : curl.curl_easy_strerror(result);
    char shown[CURL_ERROR_SIZE * 2]; /* a redirect's address may hold anything */
    cld_printable(shown, sizeof shown, words, strlen(words), CLD_ONE_LINE);
    if (result == CURLE_TOO_MANY_REDIRECTS)
        refuse(f, "the server redirects more than %d times", (int)MOST_REDIRECTS);
    else if (result == CURLE_GOT_NOTHING)
        refuse(f, "the server closed the connection without an answer");
    else if (result == CURLE_OK || result == CURLE_PARTIAL_FILE)
        refuse(f, "the connection was lost after %" PRIu64 " bytes", f->have);
    else
        refuse(f, "%s", shown);
}

/* Called when curl is done with the request. */
static cld_status finish(cld_fetch *f, CURLcode result) {
    curl.curl_multi_remove_handle(f->multi, f->easy);
    if (result == CURLE_OK && f->status == CLD_OK && !f->reason[0])
        accept_response(f); /* it may have had no body */
    if (f->status != CLD_OK) return f->status;
    if (f->from_start) return begin_anew(f) ? start(f) : f->status;
    f->done = true;
    if (f->reason[0] || (result == CURLE_OK && (f->bytes == 0 || f->have == f->bytes))) return CLD_OK;
    explain(f, result);
    return CLD_OK;
}

/* Our own timer: curl's uses the mean of the last seconds, and takes six to notice one second without data. */
static void give_up_if_stalled(cld_fetch *f) {
    if (f->done || cld_clock() - f->heard < f->stall) return;
    curl.curl_multi_remove_handle(f->multi, f->easy);
    refuse(f, "no data arrived for %d s", f->stall);
    f->done = true;
}

static cld_status perform(cld_fetch *f, double seconds) {
    double end = cld_clock() + seconds;
    while (!f->done) {
        int running, waiting;
        CURLMcode code = curl.curl_multi_perform(f->multi, &running);
        if (f->status != CLD_OK) return f->status;
        for (CURLMsg *m; code == CURLM_OK && (m = curl.curl_multi_info_read(f->multi, &waiting));)
            if (m->msg == CURLMSG_DONE) {
                CLD_TRY(finish(f, m->data.result));
                running = 1;
            }
        give_up_if_stalled(f);
        double left = end - cld_clock();
        if (f->done || left <= 0) break;
        if (code == CURLM_OK) code = curl.curl_multi_poll(f->multi, NULL, 0, (int)(left * 1000) + 1, NULL);
        if (code != CURLM_OK)
            return f->status = cld_fail(CLD_BACKEND, "libcurl: %s", curl.curl_multi_strerror(code));
    }
    return CLD_OK;
}

cld_status cld_fetch_step(cld_fetch *f, double seconds, cld_fetch_progress *progress) {
    if (f->status != CLD_OK) return cld_fail(f->status, "'%s': the fetch has already failed", f->path);
    CLD_TRY(perform(f, seconds));
    *progress = (cld_fetch_progress){
        .state = !f->done       ? CLD_FETCH_RUNNING
                 : f->reason[0] ? CLD_FETCH_FAILED
                                : CLD_FETCH_COMPLETE,
        .have = f->have,
        .reason = f->reason,
    };
    return CLD_OK;
}

/* ---- creating and freeing ------------------------------------------------------------------------------ */

static cld_status load_curl(void) {
    CLD_TRY(
        cld_library_load("libcurl.so.4", "libcurl4", names, (void **)&curl, sizeof names / sizeof *names));
    static int state; /* the first call's; more calls are fine, but not at the same time */
    if (state == 0) state = curl.curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 1 : -1;
    return state == 1 ? CLD_OK : cld_fail(CLD_BACKEND, "libcurl cannot be started");
}

static cld_status open_fetch(cld_fetch *f, const cld_fetch_settings *s) {
    CLD_TRY(load_curl());
    f->path = strdup(s->path);
    if (!f->path) return cld_fail(CLD_NOMEM, "out of memory to fetch '%s'", s->path);
    CLD_TRY(open_file(f));
    f->done = f->bytes && f->have == f->bytes;
    if (f->done) return CLD_OK;
    f->multi = curl.curl_multi_init();
    f->easy = curl.curl_easy_init();
    if (!f->multi || !f->easy) return cld_fail(CLD_NOMEM, "out of memory to fetch '%s'", s->path);
    set_options(f, s->address);
    return start(f);
}

cld_fetch *cld_fetch_new(const cld_fetch_settings *s) {
    if (strncasecmp(s->address, "http://", 7) != 0 && strncasecmp(s->address, "https://", 8) != 0)
        return cld_fail_null(CLD_INVALID, "the address '%s' does not begin with http:// or https://",
                             s->address);
    if (s->stall < 1)
        return cld_fail_null(CLD_INVALID, "expected a time-out of at least 1 second, got %d", s->stall);
    cld_fetch *f = calloc(1, sizeof *f);
    if (!f) return cld_fail_null(CLD_NOMEM, "out of memory to fetch '%s'", s->path);
    f->fd = -1;
    f->bytes = s->bytes;
    f->stall = s->stall;
    if (open_fetch(f, s) == CLD_OK) return f;
    cld_fetch_free(f);
    return NULL;
}

void cld_fetch_free(cld_fetch *f) {
    if (!f) return;
    if (f->easy && f->multi) curl.curl_multi_remove_handle(f->multi, f->easy);
    if (f->easy) curl.curl_easy_cleanup(f->easy);
    if (f->multi) curl.curl_multi_cleanup(f->multi);
    if (f->is_file && f->have == 0) unlink(f->path);
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free(f);
}

#endif
