/* Scans untrusted JSON text of any size in one pass. Nothing is built, so a few bytes of text cannot take much memory.
 * The caller walks through what it expects and skips the rest; all of the text is checked.
 *
 *     cld_json j = {.at = text, .end = text + length};
 *     cld_text key;
 *     if (cld_json_open(&j, '{'))
 *         for (bool first = true; cld_json_member(&j, &first, &key);) cld_json_skip(&j);
 *     if (!cld_json_finish(&j)) ... j.problem says what is wrong, j.at where
 *
 * Strings are decoded in place, so the text must stay. A zero byte, not counted in the length, follows each string.
 */
#ifndef CLD_IO_JSON_SCAN_H
#define CLD_IO_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cld_text {
    char *data;
    size_t length;
} cld_text;

typedef struct cld_json {
    char *at, *end;
    const char *problem; /* NULL if there is none; after one every function returns false */
} cld_json;

/* The first character of the next value or punctuation; 0 at the end of the text. */
char cld_json_peek(cld_json *j);
/* Reads '{' or '['. */
bool cld_json_open(cld_json *j, char bracket);
/* Reads the next key of an object and its colon. After the last one it reads the closing bracket and returns false. */
bool cld_json_member(cld_json *j, bool *first, cld_text *key);
/* Whether an array has another element. After the last one it reads the closing bracket and returns false. */
bool cld_json_element(cld_json *j, bool *first);

bool cld_json_string(cld_json *j, cld_text *out);
/* A number of digits only that fits 64 bits. For any other value it returns false without setting `problem`. */
bool cld_json_unsigned(cld_json *j, uint64_t *out);
bool cld_json_skip(cld_json *j);   /* any value, nested at most 128 deep */
bool cld_json_finish(cld_json *j); /* only white space follows */

#endif
