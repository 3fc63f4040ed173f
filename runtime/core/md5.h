/* MD5 (RFC 1321), to check that a file is the published one. It does not protect against forgery, but these are the
 * sums that are published with the data sets.
 *
 *     cld_md5 m;
 *     cld_md5_begin(&m);
 *     cld_md5_add(&m, data, bytes);    // as often as needed
 *     cld_md5_end(&m, hex);            // 32 digits and a zero; m is used up
 */
#ifndef CLD_CORE_MD5_H
#define CLD_CORE_MD5_H

#include <stddef.h>
#include <stdint.h>

typedef struct cld_md5 {
    uint32_t state[4];
    uint64_t bytes;
    unsigned char block[64]; /* its first bytes % 64 wait for the rest */
} cld_md5;

void cld_md5_begin(cld_md5 *m);
void cld_md5_add(cld_md5 *m, const void *data, size_t bytes);
void cld_md5_end(cld_md5 *m, char hex[33]);

#endif
