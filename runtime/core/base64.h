/* Base64 (RFC 4648, section 4): bytes as text, such as a picture inside an HTML file. */
#ifndef CLD_CORE_BASE64_H
#define CLD_CORE_BASE64_H

#include <stddef.h>

/* The length of the text for this many bytes, padding included. */
size_t cld_base64_length(size_t bytes);
/* Writes that many characters to out, without a terminating zero. */
void cld_base64(char *out, const void *bytes, size_t length);

#endif
