/* CRC-32C by tables, four bytes at a time. */
#include "runtime/io/crc32c.h"

#include <pthread.h>
#include <string.h>

static uint32_t table[4][256]; /* CRCs of a byte followed by 0 to 3 zero bytes */

static void fill(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int zeros = 1; zeros < 4; zeros++) {
            uint32_t before = table[zeros - 1][i];
            table[zeros][i] = before >> 8 ^ table[0][before & 0xff];
        }
}

uint32_t cld_crc32c(const void *data, size_t bytes) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    const unsigned char *p = data;
    uint32_t crc = 0xffffffffu;
    for (; bytes >= 4; bytes -= 4, p += 4) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[3][crc & 0xff] ^ table[2][crc >> 8 & 0xff] ^ table[1][crc >> 16 & 0xff] ^
              table[0][crc >> 24];
    }
    for (; bytes > 0; bytes--, p++) crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
    return ~crc;
}
