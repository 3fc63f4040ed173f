/* Text: numbers that do not follow the locale, and text of any origin made safe to show. */
#ifndef CLD_CORE_TEXT_H
#define CLD_CORE_TEXT_H

#include <locale.h>
#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From here to cld_leave_c_locale this thread reads and writes numbers as C does (1.5 and not 1,5), tells letters from
 * control characters as ASCII does, and compares strings byte by byte, whatever the program has said to setlocale or
 * uselocale. May be nested: leave gets what enter returned. */
locale_t cld_enter_c_locale(void);
void cld_leave_c_locale(locale_t before);

/* vsnprintf and snprintf in the C locale. */
int cld_vformat(char *out, size_t size, const char *format, va_list args);
int cld_format(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Text that may come from a file, with what a terminal would obey or cannot show as the escapes of a Lua string: \x1b
 * for control characters and for bytes that are not UTF-8, \u{202e} for the controls of Unicode (C1, text direction,
 * line separators). A backslash stays as it is, so that what was made printable once does not change again.
 * CLD_LINES keeps newlines and tabs, for a message; CLD_ONE_LINE does not, for a name in it.
 *
 * As snprintf: returns the whole length, writes at most size - 1 bytes, whole characters only, and ends with a zero. */
typedef enum cld_newlines { CLD_LINES, CLD_ONE_LINE } cld_newlines;
size_t cld_printable(char *out, size_t size, const char *text, size_t length, cld_newlines newlines);

/* Bytes of the well-formed UTF-8 character that text begins with, and its code point; 0, and *code as it was,
 * if there is none. */
int cld_utf8(const char *text, size_t length, unsigned *code);

#ifdef __cplusplus
}
#endif

#endif
