#include "runtime/core/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t cld_base64_length(size_t bytes) { return (bytes + 2) / 3 * 4; }

void cld_base64(char *out, const void *bytes, size_t length) {
    const unsigned char *in = bytes;
    for (; length >= 3; length -= 3, in += 3, out += 4) {
        out[0] = letters[in[0] >> 2];
        out[1] = letters[(in[0] & 3) << 4 | in[1] >> 4];
        out[2] = letters[(in[1] & 15) << 2 | in[2] >> 6];
        out[3] = letters[in[2] & 63];
    }
    if (length == 0) return;
    unsigned second = length == 2 ? in[1] : 0;
    out[0] = letters[in[0] >> 2];
    out[1] = letters[(in[0] & 3) << 4 | second >> 4];
    out[2] = length == 2 ? letters[(second & 15) << 2] : '=';
    out[3] = '=';
}
