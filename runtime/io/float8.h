/* Converts the 8-bit floats of safetensors files to f32, which can hold all their values, and back.
 *
 * E4M3 and E5M2 come from "FP8 Formats for Deep Learning" (Micikevicius et al., 2022); E4M3 has no infinities. The FNUZ
 * kinds have one NaN, no infinities and no negative zero. E8M0 is a power of two, the scale of a block (OCP MX 1.0).
 */
#ifndef CLD_IO_FLOAT8_H
#define CLD_IO_FLOAT8_H

#include <stdbool.h>
#include <stdint.h>

/* Values of `kind` in cld_number_type (numbers.h). */
enum {
    CLD_E4M3 = '4',
    CLD_E5M2 = '5',
    CLD_E4M3FNUZ = '6',
    CLD_E5M2FNUZ = '7',
    CLD_E8M0 = '8',
};

static inline bool cld_is_float8(char kind) { return kind >= CLD_E4M3 && kind <= CLD_E8M0; }

/* The value of each of the 256 bytes, as the bits of an f32. A NaN's sign and payload are kept. */
void cld_float8_values(char kind, uint32_t values[256]);
/* The byte whose value is nearest to the f32 with these bits; of two equally near, the even one. False if the f32 is
 * beyond the largest value or, for E8M0, below the smallest. `values` comes from cld_float8_values. */
bool cld_float8_encode(char kind, const uint32_t values[256], uint32_t bits, uint8_t *out);

#endif
