/* Writing pickles. The contract is in pickle_write.h. */
#include "runtime/io/pickle_write.h"

#include <stdlib.h>
#include <string.h>

enum { PART = 1000 }; /* pairs that Python puts into a dictionary at once */

void cld_pickle_put(cld_pickle_writer *p, const char *opcodes, size_t bytes) {
    if (p->failed) return;
    if (bytes > p->room - p->size) {
        size_t room = 2 * p->room > p->size + bytes ? 2 * p->room : p->size + bytes + 4096;
        uint8_t *grown = realloc(p->bytes, room);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->bytes = grown;
        p->room = room;
    }
    memcpy(p->bytes + p->size, opcodes, bytes);
    p->size += bytes;
}

static void put_op(cld_pickle_writer *p, char op) { cld_pickle_put(p, &op, 1); }

/* An opcode and a little-endian number after it. */
static void put_number(cld_pickle_writer *p, char op, uint64_t value, int bytes) {
    char out[9] = {op};
    for (int i = 0; i < bytes; i++) out[1 + i] = (char)(value >> (8 * i));
    cld_pickle_put(p, out, (size_t)bytes + 1);
}

uint32_t cld_pickle_keep(cld_pickle_writer *p) {
    uint32_t number = p->memo++;
    if (number < 256)
        put_number(p, 'q', number, 1);
    else
        put_number(p, 'r', number, 4);
    return number;
}

void cld_pickle_again(cld_pickle_writer *p, uint32_t number) {
    if (number < 256)
        put_number(p, 'h', number, 1);
    else
        put_number(p, 'j', number, 4);
}

uint32_t cld_pickle_put_global(cld_pickle_writer *p, const char *module, const char *name) {
    put_op(p, 'c');
    cld_pickle_put(p, module, strlen(module));
    put_op(p, '\n');
    cld_pickle_put(p, name, strlen(name));
    put_op(p, '\n');
    return cld_pickle_keep(p);
}

uint32_t cld_pickle_put_text(cld_pickle_writer *p, const char *utf8) {
    size_t length = strlen(utf8);
    put_number(p, 'X', length, 4);
    cld_pickle_put(p, utf8, length);
    return cld_pickle_keep(p);
}

void cld_pickle_put_integer(cld_pickle_writer *p, int64_t value) {
    if (value < 256)
        put_number(p, 'K', (uint64_t)value, 1);
    else if (value < 65536)
        put_number(p, 'M', (uint64_t)value, 2);
    else if (value <= INT32_MAX)
        put_number(p, 'J', (uint64_t)value, 4);
    else { /* as few bytes as hold it and its sign */
        int bytes = 5;
        while (bytes < 8 && value >> (8 * bytes - 1)) bytes++;
        char header[] = {'\x8a', (char)bytes};
        cld_pickle_put(p, header, sizeof header);
        for (int i = 0; i < bytes; i++) put_op(p, (char)(value >> (8 * i)));
    }
}

void cld_pickle_put_tuple(cld_pickle_writer *p, int count, const int64_t *values) {
    static const char closing[] = {')', '\x85', '\x86', '\x87'};
    if (count > 3) put_op(p, '(');
    for (int i = 0; i < count; i++) cld_pickle_put_integer(p, values[i]);
    put_op(p, count > 3 ? 't' : closing[count]);
    if (count > 0) cld_pickle_keep(p);
}

void cld_pickle_put_bytes_header(cld_pickle_writer *p, uint64_t bytes) {
    if (bytes < 256)
        put_number(p, 'C', bytes, 1);
    else if (bytes <= UINT32_MAX)
        put_number(p, 'B', bytes, 4);
    else
        put_number(p, '\x8e', bytes, 8);
}

/* A single last pair is put in by itself. */
static bool is_alone(size_t i, size_t count) { return i % PART == 0 && i + 1 == count; }

void cld_pickle_open_pair(cld_pickle_writer *p, size_t i, size_t count) {
    if (i % PART == 0 && !is_alone(i, count)) put_op(p, '(');
}

void cld_pickle_close_pair(cld_pickle_writer *p, size_t i, size_t count) {
    if (is_alone(i, count))
        put_op(p, 's');
    else if (i % PART == PART - 1 || i + 1 == count)
        put_op(p, 'u');
}

void cld_pickle_write_free(cld_pickle_writer *p) {
    free(p->bytes);
    *p = (cld_pickle_writer){0};
}
