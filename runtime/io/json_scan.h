/* JSON in one pass, for text of any size that nobody vouches for: nothing is built, so that a few bytes of text cannot
 * ask for many of memory. The caller walks through what it expects and skips the rest; all of it is checked.
 *
 *     cld_json j = {.at = text, .end = text + length};
 *     cld_text key;
 *     if (cld_json_open(&j, '{'))
 *         for (bool first = true; cld_json_member(&j, &first, &key);) cld_json_skip(&j);
 *     if (!cld_json_finish(&j)) ... j.problem says what is wrong, j.at where
 *
 * Strings are decoded where they lie, so the text must stay; a zero byte, which the length does not count, follows each.
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
    const char *problem; /* NULL so far; after the first every function returns false */
} cld_json;

/* The first character of the next value or sign; 0 at the end of the text. */
char cld_json_peek(cld_json *j);
/* Passes over '{' or '['. */
bool cld_json_open(cld_json *j, char bracket);
/* The next key of an object, its colon passed over; false after the last, which passes over the bracket. */
bool cld_json_member(cld_json *j, bool *first, cld_text *key);
/* Whether an array goes on; false after the last element, which passes over the bracket. */
bool cld_json_element(cld_json *j, bool *first);

bool cld_json_string(cld_json *j, cld_text *out);
/* A number of digits alone that 64 bits hold. False without a problem for any other value. */
bool cld_json_unsigned(cld_json *j, uint64_t *out);
bool cld_json_skip(cld_json *j);   /* any value, nested at most 128 deep */
bool cld_json_finish(cld_json *j); /* nothing but white space follows */

#endif
