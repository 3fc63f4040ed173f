/* 8-bit floats, as safetensors files hold them: to f32, which has all their values, and back.
 *
 * E4M3 and E5M2 are of "FP8 Formats for Deep Learning" (Micikevicius et al., 2022): E4M3 has no infinities. The FNUZ kinds
 * have neither infinities nor a negative zero, and one NaN. E8M0 is a power of two, the scale of a block (OCP MX 1.0).
 */
#ifndef CLD_IO_FLOAT8_H
#define CLD_IO_FLOAT8_H

#include <stdbool.h>
#include <stdint.h>

/* Kinds of numbers.h's cld_number_type. */
enum {
    CLD_E4M3 = '4',
    CLD_E5M2 = '5',
    CLD_E4M3FNUZ = '6',
    CLD_E5M2FNUZ = '7',
    CLD_E8M0 = '8',
};

static inline bool cld_is_float8(char kind) { return kind >= CLD_E4M3 && kind <= CLD_E8M0; }

/* What each of the 256 bytes stands for, as the bits of an f32. A NaN's sign and payload are kept. */
void cld_float8_values(char kind, uint32_t values[256]);
/* The byte of the nearest value, of two the even one, for an f32's bits. False if it lies beyond the largest value or, of
 * E8M0, below the smallest. `values` is cld_float8_values'. */
bool cld_float8_encode(char kind, const uint32_t values[256], uint32_t bits, uint8_t *out);

#endif
