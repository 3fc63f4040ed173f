/* MD5, as in section 3 of RFC 1321. */
#include "runtime/core/md5.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* T[i] of the RFC: the integer part of 2^32 |sin(i + 1)|. A double is exact enough. */
static uint32_t sines[64];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void fill_sines(void) {
    for (int i = 0; i < 64; i++) sines[i] = (uint32_t)(4294967296.0 * fabs(sin(i + 1)));
}

static uint32_t rotate(uint32_t x, int by) { return x << by | x >> (32 - by); }

static uint32_t little_endian(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* [abcd k s i]: a = b + ((a + f(b, c, d) + X[k] + T[i]) <<< s), after which the four are rotated. */
#define STEP(f, k, s)                                                                                        \
    do {                                                                                                     \
        uint32_t sum = a + (f) + x[k] + sines[i];                                                            \
        a = d, d = c, c = b, b += rotate(sum, s);                                                            \
    } while (0)

static void add_block(uint32_t state[4], const unsigned char *block) {
    static const int shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t x[16], a = state[0], b = state[1], c = state[2], d = state[3];
    for (int i = 0; i < 16; i++) x[i] = little_endian(block + 4 * i);
    for (int i = 0; i < 16; i++) STEP((b & c) | (~b & d), i, shifts[0][i & 3]);
    for (int i = 16; i < 32; i++) STEP((b & d) | (c & ~d), (5 * i + 1) & 15, shifts[1][i & 3]);
    for (int i = 32; i < 48; i++) STEP(b ^ c ^ d, (3 * i + 5) & 15, shifts[2][i & 3]);
    for (int i = 48; i < 64; i++) STEP(c ^ (b | ~d), 7 * i & 15, shifts[3][i & 3]);
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

void cld_md5_begin(cld_md5 *m) {
    pthread_once(&once, fill_sines);
    *m = (cld_md5){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

void cld_md5_add(cld_md5 *m, const void *data, size_t bytes) {
    const unsigned char *p = data;
    size_t held = m->bytes & 63;
    m->bytes += bytes;
    if (held) {
        size_t part = bytes < 64 - held ? bytes : 64 - held;
        memcpy(m->block + held, p, part);
        if (held + part < 64) return;
        add_block(m->state, m->block);
        p += part, bytes -= part;
    }
    for (; bytes >= 64; p += 64, bytes -= 64) add_block(m->state, p);
    if (bytes) memcpy(m->block, p, bytes);
}

void cld_md5_end(cld_md5 *m, char hex[33]) {
    static const unsigned char padding[64] = {0x80};
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(m->bytes << 3 >> 8 * i);
    cld_md5_add(m, padding, 1 + ((55 - m->bytes) & 63)); /* to 56 bytes past a block's beginning */
    cld_md5_add(m, length, sizeof length);
    for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", m->state[i / 4] >> 8 * (i % 4) & 255);
}
