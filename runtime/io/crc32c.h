/* CRC-32C (Castagnoli), as in iSCSI (RFC 3720, B.4), and the form in which TFRecord files store it. */
#ifndef CLD_IO_CRC32C_H
#define CLD_IO_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t cld_crc32c(const void *data, size_t bytes);

/* Rotated by 15 bits, plus a constant, so that the data may safely contain their own checksum. */
static inline uint32_t cld_masked_crc32c(const void *data, size_t bytes) {
    uint32_t crc = cld_crc32c(data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

#endif
