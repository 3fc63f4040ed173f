/* A digest of bytes at about the speed of memory, to tell whether two are the same. Not safe against deliberate
 * collisions. */
#ifndef CLD_CORE_DIGEST_H
#define CLD_CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* MurmurHash64A (Austin Appleby, public domain), over whole words; the rest is padded with zeros. Bytes that differ
 * only in one 8-byte word have different digests. */
uint64_t cld_digest(const void *bytes, size_t length);

#endif
