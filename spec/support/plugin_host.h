/* What a program passes to the CUDA plugin that it is linked with: an error record, whose last message is `message`. */
#ifndef CLD_SPEC_PLUGIN_HOST_H
#define CLD_SPEC_PLUGIN_HOST_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/backend.h"

extern "C" const cld_plugin *cld_plugin_entry(const cld_plugin_host *host);

static cld_status code;
static char message[1024];

static cld_status fail(cld_status c, const char *format, ...) {
    char text[sizeof message]; /* an argument may be the message itself */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof text);
    return code = c;
}
static cld_status error_code() { return code; }
static const char *error_message() { return message; }

static const cld_plugin_host plugin_host = {fail, error_code, error_message};

#endif
