#include "runtime/core/error.h"

#include <stdarg.h>
#include <string.h>

#include "runtime/core/text.h"

static _Thread_local cld_error_record record;

cld_status cld_fail(cld_status code, const char *format, ...) {
    /* Formatted into a copy first, because an argument may be the old message. Names come from files: one sentence
     * stays one line, whatever they contain. */
    char message[sizeof record.message];
    va_list args;
    va_start(args, format);
    cld_vformat(message, sizeof message, format, args);
    va_end(args);
    cld_printable(record.message, sizeof record.message, message, strlen(message), CLD_ONE_LINE);
    record.code = code;
    return code;
}

cld_status cld_fail_in(const char *format, ...) {
    char context[512];
    va_list args;
    va_start(args, format);
    cld_vformat(context, sizeof context, format, args);
    va_end(args);
    return cld_fail(record.code, "%s: %s", context, record.message);
}

cld_status cld_error_code(void) { return record.code; }
const char *cld_error_message(void) { return record.message; }
cld_error_record cld_error_export(void) { return record; }

cld_status cld_error_import(const cld_error_record *from) {
    record = *from;
    return record.code;
}
