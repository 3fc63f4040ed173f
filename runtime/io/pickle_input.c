/* The pickle's file: a window that moves forward over it, and strings, which are decoded when they are needed. */
#include "runtime/io/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

/* ---- the window ---------------------------------------------------------------------------------------- */

static cld_status fail_truncated(const cld_pickle *p) {
    return cld_fail(CLD_IO, "%s: truncated: the %s ends after %llu bytes, in the middle of its pickle",
                    p->source.path, p->source.memory ? "member data.pkl" : "file",
                    (unsigned long long)p->source.end);
}

static bool in_window(const cld_pickle *p, uint64_t offset, size_t bytes) {
    return offset >= p->window_start && bytes <= p->window_size &&
           offset - p->window_start <= p->window_size - bytes;
}

/* Reads from anywhere in the file or memory. */
static cld_status get(cld_pickle *p, void *out, uint64_t offset, size_t bytes) {
    if (!p->source.memory) return cld_reader_get(p->source.reader, out, offset, bytes);
    memcpy(out, p->source.memory + offset, bytes);
    return CLD_OK;
}

/* For a file only: a pickle in memory is all in the window already. */
static cld_status move_window(cld_pickle *p, uint64_t start) {
    uint64_t left = p->source.end - start;
    p->window_start = start;
    p->window_size = 0; /* empty if this fails */
    size_t size = left < WINDOW ? (size_t)left : WINDOW;
    CLD_TRY(get(p, p->buffer, start, size));
    p->window_size = size;
    return CLD_OK;
}

cld_status cld__pickle_take(cld_pickle *p, uint64_t size, uint64_t *offset) {
    if (size > p->source.end - p->at) return fail_truncated(p);
    *offset = p->at;
    p->at += size;
    return CLD_OK;
}

cld_status cld__pickle_take_number(cld_pickle *p, int bytes, uint64_t *out) {
    uint64_t offset = 0;
    CLD_TRY(cld__pickle_take(p, (uint64_t)bytes, &offset));
    if (!in_window(p, offset, (size_t)bytes)) CLD_TRY(move_window(p, offset));
    const uint8_t *from = p->window + (offset - p->window_start);
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)from[i] << 8 * i;
    return CLD_OK;
}

cld_status cld__pickle_take_line(cld_pickle *p, uint64_t *offset, uint64_t *length) {
    *offset = p->at;
    for (uint64_t at = p->at; at < p->source.end;) {
        if (!in_window(p, at, 1)) CLD_TRY(move_window(p, at));
        const uint8_t *from = p->window + (at - p->window_start), *end = p->window + p->window_size;
        const uint8_t *newline = memchr(from, '\n', (size_t)(end - from));
        at += (uint64_t)((newline ? newline : end) - from);
        if (!newline) continue;
        *length = at - p->at;
        p->at = at + 1;
        return CLD_OK;
    }
    return fail_truncated(p);
}

cld_status cld__pickle_fetch(cld_pickle *p, uint64_t offset, void *out, size_t bytes) {
    if (!in_window(p, offset, bytes)) return get(p, out, offset, bytes);
    memcpy(out, p->window + (offset - p->window_start), bytes);
    return CLD_OK;
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

#define LONGEST_ESCAPE 10 /* \U0001f600 */

static int hex_digit(int c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Reads `digits` hexadecimal digits; false if there are fewer. */
static bool take_hex(const uint8_t *in, size_t left, size_t digits, uint32_t *out) {
    *out = 0;
    if (left < digits) return false;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(in[i]);
        if (digit < 0) return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static const char *unquote(const uint8_t *in, size_t left, size_t *used, uint32_t *code) {
    static const char escapes[] = "\\'\"nrtabfv", meant[] = "\\'\"\n\r\t\a\b\f\v";
    *used = 1;
    *code = in[0];
    if (in[0] != '\\') return NULL;
    const char *found = left > 1 ? memchr(escapes, in[1], sizeof escapes - 1) : NULL;
    *used = found ? 2 : 4;
    if (found) *code = (uint8_t)meant[found - escapes];
    if (found || (left > 1 && in[1] == 'x' && take_hex(in + 2, left - 2, 2, code))) return NULL;
    return "a string has an unknown escape";
}

/* Python's raw-unicode-escape: Latin-1, except for \uXXXX and \UXXXXXXXX. */
static const char *unescape(const uint8_t *in, size_t left, size_t *used, uint32_t *code) {
    size_t digits = left > 1 && in[0] == '\\' ? (in[1] == 'u' ? 4 : in[1] == 'U' ? 8 : 0) : 0;
    *used = digits ? 2 + digits : 1;
    *code = in[0];
    if (!digits || (take_hex(in + 2, left - 2, digits, code) && *code < 0x110000)) return NULL;
    return "a string has an unknown escape";
}

/* Decodes UTF-8 of a character below 256. */
static const char *to_latin1(const uint8_t *in, size_t left, size_t *used, uint32_t *code) {
    bool wide = (in[0] & 0xFE) == 0xC2 && left > 1 && (in[1] & 0xC0) == 0x80;
    *used = wide ? 2 : 1;
    *code = wide ? (uint8_t)(in[0] << 6 | (in[1] & 0x3F)) : in[0];
    return in[0] < 0x80 || wide ? NULL : "text to encode as latin1 has other characters";
}

size_t cld_pickle_utf8(uint32_t code, uint8_t out[4]) {
    static const uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
    size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    out[0] = (uint8_t)(lead[more] | code >> 6 * more);
    for (size_t i = 1; i <= more; i++) out[i] = (uint8_t)(0x80 | (code >> 6 * (more - i) & 0x3F));
    return 1 + more;
}

/* Decodes one character of a string that is not AS_IS. `left` bytes are at `in`: at least as many as an escape has, or
 * all that remain. Returns what is wrong, or NULL. */
static const char *decode(form form, const uint8_t *in, size_t left, size_t *used, uint8_t out[4],
                          size_t *made) {
    uint32_t code = 0;
    const char *problem = form == CLD_PICKLE_QUOTED   ? unquote(in, left, used, &code)
                          : form == CLD_PICKLE_LATIN1 ? to_latin1(in, left, used, &code)
                                                      : unescape(in, left, used, &code);
    if (!problem && form == CLD_PICKLE_LATIN1_LINE && code > 255)
        problem = "text to encode as latin1 has other characters";
    if (problem) return problem;
    out[0] = (uint8_t)code;
    *made = form == CLD_PICKLE_TEXT_LINE ? cld_pickle_utf8(code, out) : 1;
    return NULL;
}

size_t cld_pickle_text(cld_pickle *p, const value *v, char *out, size_t room) {
    uint8_t raw[256];
    size_t size = 0, left = v->string.raw < sizeof raw ? (size_t)v->string.raw : sizeof raw;
    out[0] = '\0';
    if (cld__pickle_fetch(p, v->string.offset, raw, left) != CLD_OK) return 0;
    for (const uint8_t *in = raw; left > 0 && size + 4 < room;) {
        size_t used = 1, made = 1;
        uint8_t piece[4] = {*in};
        if (v->string.form != CLD_PICKLE_AS_IS && decode(v->string.form, in, left, &used, piece, &made))
            break;
        memcpy(out + size, piece, made);
        size += made;
        in += used;
        left -= used;
    }
    out[size] = '\0';
    return size;
}

bool cld_pickle_equals(cld_pickle *p, const value *v, const char *text) {
    char found[64];
    size_t length = strlen(text);
    if (!cld_pickle_is_string(v) || v->string.raw < length || v->string.raw > LONGEST_ESCAPE * length ||
        (v->string.form == CLD_PICKLE_AS_IS && v->string.raw != length))
        return false;
    return cld_pickle_text(p, v, found, sizeof found) == length && memcmp(found, text, length) == 0;
}

/* ---- streams ------------------------------------------------------------------------------------------- */

struct cld_pickle_stream {
    cld_pickle *pickle;
    form form;
    uint64_t at, end;    /* the part of the file that has not been read into raw */
    size_t used, filled; /* bytes of raw */
    uint8_t piece[4];    /* decoded, but not yet handed out */
    size_t piece_at, piece_size;
    uint8_t raw[WINDOW];
};

cld_pickle_stream *cld_pickle_stream_open(cld_pickle *p, const value *v) {
    cld_pickle_stream *s = malloc(sizeof *s);
    if (!s) return cld_fail_null(CLD_NOMEM, "%s: out of memory", p->source.path);
    s->pickle = p;
    s->form = v->string.form;
    s->at = v->string.offset;
    s->end = v->string.offset + v->string.raw;
    s->used = s->filled = s->piece_at = s->piece_size = 0;
    return s;
}

void cld_pickle_stream_free(cld_pickle_stream *s) { free(s); }

/* Makes sure that raw holds at least as many bytes as an escape has, or all that remain. */
static cld_status refill(cld_pickle_stream *s) {
    if (s->filled - s->used >= LONGEST_ESCAPE || s->at == s->end) return CLD_OK;
    s->filled -= s->used;
    memmove(s->raw, s->raw + s->used, s->filled);
    s->used = 0;
    size_t size = sizeof s->raw - s->filled;
    if (size > s->end - s->at) size = (size_t)(s->end - s->at);
    CLD_TRY(get(s->pickle, s->raw + s->filled, s->at, size));
    s->filled += size;
    s->at += size;
    return CLD_OK;
}

/* Decodes the next character into piece; sets *ended after the last one. */
static cld_status next_piece(cld_pickle_stream *s, bool *ended) {
    size_t used = 0;
    CLD_TRY(refill(s));
    *ended = s->used == s->filled;
    if (*ended) return CLD_OK;
    const char *problem =
        decode(s->form, s->raw + s->used, s->filled - s->used, &used, s->piece, &s->piece_size);
    if (problem) return cld__pickle_fail(s->pickle, "%s", problem);
    s->used += used;
    s->piece_at = 0;
    return CLD_OK;
}

cld_status cld_pickle_stream_next(cld_pickle_stream *s, void *to, size_t bytes) {
    uint8_t *out = to;
    bool ended = false;
    while (s->form == CLD_PICKLE_AS_IS && bytes > 0) {
        if (s->used == s->filled) CLD_TRY(refill(s));
        size_t n = s->filled - s->used < bytes ? s->filled - s->used : bytes;
        if (n == 0) return cld__pickle_fail(s->pickle, "a string has too few bytes");
        memcpy(out, s->raw + s->used, n);
        s->used += n;
        out += n;
        bytes -= n;
    }
    while (bytes > 0) {
        if (s->piece_at == s->piece_size) CLD_TRY(next_piece(s, &ended));
        if (ended) return cld__pickle_fail(s->pickle, "a string has too few bytes");
        *out++ = s->piece[s->piece_at++];
        bytes--;
    }
    return CLD_OK;
}

cld_status cld_pickle_measure(cld_pickle *p, const value *v, uint64_t *size) {
    *size = v->string.raw;
    if (v->string.form == CLD_PICKLE_AS_IS) return CLD_OK;
    cld_pickle_stream *s = cld_pickle_stream_open(p, v);
    if (!s) return cld_error_code();
    bool ended = false;
    cld_status status = CLD_OK;
    for (*size = 0; status == CLD_OK && !ended; *size += ended ? 0 : s->piece_size)
        status = next_piece(s, &ended);
    free(s);
    return status;
}

cld_status cld__pickle_measure(cld_pickle *p, value *v) { return cld_pickle_measure(p, v, &v->string.size); }
