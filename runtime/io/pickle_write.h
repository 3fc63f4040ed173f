/* Writes pickles: a small assembler of the opcodes that plain data and calls of a few functions need. Its callers
 * (torch_write.c, detectron2_write.c) put them in order and say what they make.
 *
 * Every value that Python's own pickler would number in its memo gets a number here, in the same order, so that the
 * output is, byte for byte, what Python writes for the same objects.
 *
 *     cld_pickle_writer p = {0};
 *     cld_pickle_put(&p, "\x80\2", 2);                       // a failure is remembered in p.failed
 *     uint32_t class = cld_pickle_put_global(&p, "collections", "OrderedDict");
 *     ...
 *     cld_pickle_write_free(&p);
 */
#ifndef CLD_IO_PICKLE_WRITE_H
#define CLD_IO_PICKLE_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cld_pickle_writer {
    uint8_t *bytes;
    size_t size, room;
    uint32_t memo; /* numbers given so far */
    bool failed;   /* out of memory */
} cld_pickle_writer;

/* Appends opcodes as they are. */
void cld_pickle_put(cld_pickle_writer *p, const char *opcodes, size_t bytes);
/* Gives the value on top of the stack the next memo number and returns it. */
uint32_t cld_pickle_keep(cld_pickle_writer *p);
/* Pushes the value with that memo number. */
void cld_pickle_again(cld_pickle_writer *p, uint32_t number);
/* Each pushes a value. Texts and names get a memo number. */
uint32_t cld_pickle_put_global(cld_pickle_writer *p, const char *module, const char *name);
uint32_t cld_pickle_put_text(cld_pickle_writer *p, const char *utf8);
void cld_pickle_put_integer(cld_pickle_writer *p, int64_t value); /* not negative */
/* A tuple of integers; it gets a memo number unless it is empty. */
void cld_pickle_put_tuple(cld_pickle_writer *p, int count, const int64_t *values);
/* The opcode and the length of a byte string whose bytes follow; protocol 3 or newer. */
void cld_pickle_put_bytes_header(cld_pickle_writer *p, uint64_t bytes);

/* Puts pairs into the dictionary below them: call open before the i-th of `count` pairs, and close after it. Python
 * writes them in batches of a thousand. */
void cld_pickle_open_pair(cld_pickle_writer *p, size_t i, size_t count);
void cld_pickle_close_pair(cld_pickle_writer *p, size_t i, size_t count);

void cld_pickle_write_free(cld_pickle_writer *p);

#endif
