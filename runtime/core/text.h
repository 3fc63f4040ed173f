/* Text: numbers that do not depend on the locale, and untrusted text made safe to print. */
#ifndef CLD_CORE_TEXT_H
#define CLD_CORE_TEXT_H

#include <locale.h>
#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From here to cld_leave_c_locale this thread uses the C locale: it reads and writes numbers as 1.5, not 1,5,
 * classifies characters as ASCII, and compares strings byte by byte, whatever setlocale or uselocale has set. May be
 * nested: pass to leave what enter returned. */
locale_t cld_enter_c_locale(void);
void cld_leave_c_locale(locale_t before);

/* vsnprintf and snprintf in the C locale. */
int cld_vformat(char *out, size_t size, const char *format, va_list args);
int cld_format(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Makes untrusted text safe to print: what a terminal would interpret or cannot show is replaced by escapes as in a Lua
 * string: \x1b for control characters and bytes that are not UTF-8, \u{202e} for Unicode's control characters (C1, text
 * direction, line separators). A backslash stays as it is, so that printable text does not change when it is made
 * printable again. CLD_LINES keeps newlines and tabs, for a message; CLD_ONE_LINE escapes them, for a name in a
 * message.
 *
 * Like snprintf: returns the whole length, writes at most size - 1 bytes, whole characters only, and ends with a 0. */
typedef enum cld_newlines { CLD_LINES, CLD_ONE_LINE } cld_newlines;
size_t cld_printable(char *out, size_t size, const char *text, size_t length, cld_newlines newlines);

/* The length in bytes of the well-formed UTF-8 character at the start of text, and its code point; 0, with *code
 * unchanged, if there is none. */
int cld_utf8(const char *text, size_t length, unsigned *code);

#ifdef __cplusplus
}
#endif

#endif
