#include "runtime/core/digest.h"

#include <string.h>

static uint64_t add(uint64_t h, uint64_t word) {
    const uint64_t m = 0xc6a4a7935bd1e995u;
    word *= m;
    word ^= word >> 47;
    return (h ^ (word * m)) * m;
}

uint64_t cld_digest(const void *bytes, size_t length) {
    const uint64_t m = 0xc6a4a7935bd1e995u;
    const char *at = bytes, *words_end = at + length / 8 * 8;
    uint64_t word, h = 0x9e3779b97f4a7c15u ^ (length * m);
    for (; at < words_end; at += 8) {
        memcpy(&word, at, 8);
        h = add(h, word);
    }
    if (length % 8) {
        word = 0;
        memcpy(&word, at, length % 8);
        h = add(h, word);
    }
    h = (h ^ (h >> 47)) * m;
    return h ^ (h >> 47);
}
