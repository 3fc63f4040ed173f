/* The scanner: one function per rule of the grammar (RFC 8259). */
#include "runtime/io/json_scan.h"

#include <string.h>

#define MOST_DEPTH 128

static bool fail(cld_json *j, const char *problem) {
    if (!j->problem) j->problem = problem;
    return false;
}

char cld_json_peek(cld_json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r')) j->at++;
    return j->at < j->end ? *j->at : '\0';
}

static bool take(cld_json *j, char sign, const char *problem) {
    if (j->problem || cld_json_peek(j) != sign) return fail(j, problem);
    j->at++;
    return true;
}

/* ---- strings ------------------------------------------------------------------------------------------- */

static bool take_hex(cld_json *j, unsigned *out) {
    if (j->end - j->at < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int c = *j->at++, digit = c >= '0' && c <= '9'                 ? c - '0'
                                  : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                       : -1;
        if (digit < 0) return false;
        *out = *out << 4 | (unsigned)digit;
    }
    return true;
}

/* Reads what follows \u, and the second half of a surrogate pair. */
static bool take_code(cld_json *j, unsigned *code) {
    unsigned low;
    if (!take_hex(j, code)) return false;
    if (*code < 0xD800 || *code > 0xDFFF) return true;
    if (*code > 0xDBFF || j->end - j->at < 2 || j->at[0] != '\\' || j->at[1] != 'u') return false;
    j->at += 2;
    if (!take_hex(j, &low) || low < 0xDC00 || low > 0xDFFF) return false;
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return true;
}

/* Writes the code as UTF-8, which is never longer than its escape. */
static char *put_code(char *out, unsigned code) {
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
    *out++ = (char)(lead[more] | code >> 6 * more);
    for (; more > 0; more--) *out++ = (char)(0x80 | (code >> 6 * (more - 1) & 0x3F));
    return out;
}

/* The length of the sequence at `at`, which is not ASCII; 0 if it is not UTF-8. */
static int sequence(const char *at, const char *end) {
    const unsigned char *c = (const unsigned char *)at;
    int length = c[0] < 0xC2 ? 0 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : c[0] < 0xF5 ? 4 : 0;
    if (length == 0 || end - at < length) return 0;
    for (int i = 1; i < length; i++)
        if ((c[i] & 0xC0) != 0x80) return 0;
    bool overlong = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    bool no_character = (c[0] == 0xED && c[1] > 0x9F) || (c[0] == 0xF4 && c[1] > 0x8F);
    return overlong || no_character ? 0 : length;
}

static bool take_escape(cld_json *j, char **out) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    unsigned code;
    char c = j->at < j->end ? *j->at++ : '\0';
    const char *found = c ? strchr(escapes, c) : NULL;
    if (found) return *(*out)++ = meant[found - escapes], true;
    if (c != 'u' || !take_code(j, &code)) return fail(j, "a string has an unknown escape");
    *out = put_code(*out, code);
    return true;
}

bool cld_json_string(cld_json *j, cld_text *out) {
    if (!take(j, '"', "expected a string")) return false;
    char *to = out->data = j->at;
    while (j->at < j->end) {
        unsigned char c = (unsigned char)*j->at;
        if (c == '"') {
            j->at++;
            *to = '\0';
            out->length = (size_t)(to - out->data);
            return true;
        }
        if (c < 0x20) return fail(j, "a string holds a control character");
        if (c == '\\') {
            j->at++;
            if (!take_escape(j, &to)) return false;
            continue;
        }
        int length = c < 0x80 ? 1 : sequence(j->at, j->end);
        if (length == 0) return fail(j, "a string is not UTF-8");
        while (length--) *to++ = *j->at++;
    }
    return fail(j, "a string does not end");
}

/* ---- numbers and the rest ------------------------------------------------------------------------------ */

static bool is_digit(const cld_json *j) { return j->at < j->end && *j->at >= '0' && *j->at <= '9'; }

bool cld_json_unsigned(cld_json *j, uint64_t *out) {
    if (j->problem) return false;
    cld_json_peek(j);
    char *begin = j->at;
    bool fits = is_digit(j);
    for (*out = 0; fits && is_digit(j); j->at++)
        fits = !__builtin_mul_overflow(*out, 10, out) &&
               !__builtin_add_overflow(*out, (uint64_t)(*j->at - '0'), out);
    bool longer = j->at < j->end && (*j->at == '.' || *j->at == 'e' || *j->at == 'E');
    if (fits && !longer && (*begin != '0' || j->at == begin + 1)) return true;
    j->at = begin;
    return false;
}

static bool skip_digits(cld_json *j) {
    if (!is_digit(j)) return fail(j, "expected a digit");
    while (is_digit(j)) j->at++;
    return true;
}

static bool skip_number(cld_json *j) {
    if (*j->at == '-') j->at++;
    if (j->at < j->end && *j->at == '0')
        j->at++;
    else if (!skip_digits(j))
        return false;
    if (j->at < j->end && *j->at == '.') {
        j->at++;
        if (!skip_digits(j)) return false;
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-')) j->at++;
        return skip_digits(j);
    }
    return true;
}

static bool skip_word(cld_json *j) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(j->end - j->at) < length || memcmp(j->at, words[i], length) != 0) continue;
        j->at += length;
        return true;
    }
    return fail(j, "expected a value");
}

static bool skip_value(cld_json *j, int depth) {
    cld_text unused;
    if (j->problem) return false;
    if (depth == MOST_DEPTH) return fail(j, "it is nested more than 128 deep");
    char c = cld_json_peek(j);
    if (c == '"') return cld_json_string(j, &unused);
    if (c == '-' || is_digit(j)) return skip_number(j);
    if (c != '{' && c != '[') return skip_word(j);
    j->at++;
    for (bool first = true; c == '{' ? cld_json_member(j, &first, &unused) : cld_json_element(j, &first);)
        skip_value(j, depth + 1);
    return !j->problem;
}

bool cld_json_skip(cld_json *j) { return skip_value(j, 0); }

/* ---- objects and arrays -------------------------------------------------------------------------------- */

bool cld_json_open(cld_json *j, char bracket) {
    return take(j, bracket, bracket == '{' ? "expected an object" : "expected an array");
}

/* Whether another item follows before the bracket `close`. */
static bool another(cld_json *j, bool *first, char close) {
    if (j->problem) return false;
    if (cld_json_peek(j) == close) {
        j->at++;
        return false;
    }
    if (!*first && !take(j, ',', close == '}' ? "expected ',' or '}'" : "expected ',' or ']'")) return false;
    *first = false;
    return true;
}

bool cld_json_member(cld_json *j, bool *first, cld_text *key) {
    return another(j, first, '}') && cld_json_string(j, key) && take(j, ':', "expected ':'");
}

bool cld_json_element(cld_json *j, bool *first) { return another(j, first, ']'); }

bool cld_json_finish(cld_json *j) {
    if (!j->problem && (cld_json_peek(j), j->at < j->end)) fail(j, "something follows its end");
    return !j->problem;
}
