/* The error record belongs to the program, which reads it: runtime/core/error.c is not part of this library. */
#include "kernels/cuda/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Used until cld_cuda_set_host is called; a program that links these files itself does not call it. */
static _Thread_local struct {
    cld_status code;
    char message[1024];
} own;

static cld_status own_fail(cld_status code, const char *format, ...) {
    char message[sizeof own.message]; /* an argument may be the old message */
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    memcpy(own.message, message, sizeof message);
    return own.code = code;
}
static cld_status own_code(void) { return own.code; }
static const char *own_message(void) { return own.message; }

static const cld_plugin_host alone = {own_fail, own_code, own_message};
static const cld_plugin_host *host = &alone;

void cld_cuda_set_host(const cld_plugin_host *h) { host = h; }

static cld_status fail(cld_status code, const char *context, const char *format, va_list args) {
    char message[1024];
    vsnprintf(message, sizeof message, format, args);
    return context ? host->fail(code, "%s: %s", message, context) : host->fail(code, "%s", message);
}

cld_status cld_fail(cld_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(code, NULL, format, args);
    va_end(args);
    return code;
}

cld_status cld_fail_in(const char *format, ...) {
    va_list args;
    va_start(args, format);
    cld_status status = fail(host->code(), host->message(), format, args);
    va_end(args);
    return status;
}

cld_status cld_error_code(void) { return host->code(); }
const char *cld_error_message(void) { return host->message(); }
