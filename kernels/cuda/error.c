/* The error record is the program's, which reads it: runtime/core/error.c is not part of this library. */
#include "kernels/cuda/error.h"

#include <stdarg.h>
#include <stdio.h>

static const cld_plugin_host *host;

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
