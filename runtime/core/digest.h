/* A digest of bytes at about the speed of memory: whether two are the same, among people who mean well. */
#ifndef CLD_CORE_DIGEST_H
#define CLD_CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* MurmurHash64A (Austin Appleby, public domain), of whole words; the rest padded with zeros. Bytes that differ in one word
 * of eight alone have different digests. */
uint64_t cld_digest(const void *bytes, size_t length);

#endif
