#define _GNU_SOURCE
#include "runtime/core/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* ---- the C locale ---------------------------------------------------------------------------------------- */

/* The C library's own locale, which needs no memory and is never freed. */
locale_t cld_enter_c_locale(void) { return uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0)); }

void cld_leave_c_locale(locale_t before) { uselocale(before); }

int cld_vformat(char *out, size_t size, const char *format, va_list args) {
    locale_t before = cld_enter_c_locale();
    int length = vsnprintf(out, size, format, args);
    cld_leave_c_locale(before);
    return length;
}

int cld_format(char *out, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = cld_vformat(out, size, format, args);
    va_end(args);
    return length;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------------ */

int cld_utf8(const char *text, size_t length, unsigned *code) {
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000}; /* the least code of each length in bytes */
    unsigned char first = length ? (unsigned char)text[0] : 0xFF;
    int bytes = first < 0x80   ? 1
                : first < 0xC2 ? 0
                : first < 0xE0 ? 2
                : first < 0xF0 ? 3
                : first < 0xF5 ? 4
                               : 0;
    if (bytes == 0 || (size_t)bytes > length) return 0;
    unsigned read = bytes == 1 ? first : first & (0x7Fu >> bytes);
    for (int i = 1; i < bytes; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) return 0;
        read = read << 6 | ((unsigned char)text[i] & 0x3F);
    }
    bool surrogate = read >= 0xD800 && read <= 0xDFFF;
    if (read < least[bytes] || read > 0x10FFFF || surrogate) return 0;
    *code = read;
    return bytes;
}

/* ---- printable text --------------------------------------------------------------------------------------- */

/* Control characters, marks that change the direction of text, and line separators. */
static bool is_control(unsigned code, cld_newlines newlines) {
    if (code == '\n' || code == '\t') return newlines == CLD_ONE_LINE;
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E ||
           code == 0x200F || (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

size_t cld_printable(char *out, size_t size, const char *text, size_t length, cld_newlines newlines) {
    size_t whole = 0, wrote = 0;
    for (size_t i = 0; i < length;) {
        char escape[16];
        const char *piece = text + i;
        unsigned code = 0;
        int bytes = cld_utf8(piece, length - i, &code), room = bytes;
        if (bytes == 0 || is_control(code, newlines)) {
            room = code == '\n' || code == '\t'
                       ? snprintf(escape, sizeof escape, code == '\n' ? "\\n" : "\\t")
                   : bytes > 1 ? snprintf(escape, sizeof escape, "\\u{%x}", code)
                               : snprintf(escape, sizeof escape, "\\x%02x", (unsigned char)*piece);
            piece = escape;
        }
        if (wrote == whole && whole + (size_t)room < size) {
            memcpy(out + wrote, piece, (size_t)room);
            wrote += (size_t)room;
        }
        whole += (size_t)room;
        i += bytes ? (size_t)bytes : 1;
    }
    if (size > 0) out[wrote] = '\0';
    return whole;
}
