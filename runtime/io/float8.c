/* 8-bit floats. The contract is in float8.h. */
#include "runtime/io/float8.h"

#include <math.h>
#include <string.h>

/* E8M0 has no sign: its values continue in the upper half of the bytes. */
typedef struct format {
    int mantissa, bias;
    int largest; /* the byte of the largest finite value */
    bool fnuz;   /* 0x80 is the only NaN */
} format;

static const format *format_of(char kind) {
    static const format formats[] = {{3, 7, 0x7E, false},
                                     {2, 15, 0x7B, false},
                                     {3, 8, 0x7F, true},
                                     {2, 16, 0x7F, true},
                                     {0, 127, 0xFE, false}};
    return &formats[kind - CLD_E4M3];
}

static float value_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

enum { QUIET = 1 << 22 };
#define INFINITE 0x7F800000u

/* The f32 bits of a byte without its sign. */
static uint32_t magnitude(char kind, int byte) {
    const format *f = format_of(kind);
    int exponent = byte >> f->mantissa, fraction = byte & ((1 << f->mantissa) - 1);
    if (byte > f->largest) /* E5M2 has IEEE's infinity and NaNs; the others have one NaN */
        return kind == CLD_E5M2 ? INFINITE | (uint32_t)fraction << 21 : INFINITE | QUIET;
    if (kind == CLD_E8M0) return bits_of(ldexpf(1, byte - f->bias));
    float whole = (float)fraction / (float)(1 << f->mantissa);
    return bits_of(exponent ? ldexpf(1 + whole, exponent - f->bias) : ldexpf(whole, 1 - f->bias));
}

void cld_float8_values(char kind, uint32_t values[256]) {
    bool fnuz = format_of(kind)->fnuz;
    for (int byte = 0; byte < 256; byte++) {
        if (kind == CLD_E8M0)
            values[byte] = magnitude(kind, byte);
        else if (fnuz && byte == 0x80)
            values[byte] = INFINITE | QUIET;
        else
            values[byte] = magnitude(kind, byte & 0x7F) | (uint32_t)(byte >> 7) << 31;
    }
}

static uint8_t nan_byte(char kind, uint32_t bits) {
    uint8_t sign = (uint8_t)(bits >> 31 << 7);
    if (kind == CLD_E8M0) return 0xFF;
    if (format_of(kind)->fnuz) return 0x80;
    if (kind == CLD_E4M3) return sign | 0x7F;
    uint8_t payload = bits >> 21 & 3;
    return sign | 0x7C | (payload ? payload : 1);
}

bool cld_float8_encode(char kind, const uint32_t values[256], uint32_t bits, uint8_t *out) {
    const format *f = format_of(kind);
    uint32_t without_sign = bits & 0x7FFFFFFFu;
    uint8_t sign = (uint8_t)(bits >> 31 << 7);
    if (without_sign > INFINITE) {
        *out = nan_byte(kind, bits);
        return true;
    }
    if (without_sign == INFINITE && kind == CLD_E5M2) {
        *out = sign | 0x7C;
        return true;
    }
    double value = value_of(without_sign);
    if (value > value_of(values[f->largest])) return false;
    if (kind == CLD_E8M0 && (sign || value < value_of(values[0]))) return false;
    int low = 0, high = f->largest; /* values[low] <= value <= values[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (value_of(values[middle]) <= value)
            low = middle;
        else
            high = middle;
    }
    double below = value - value_of(values[low]), above = value_of(values[high]) - value;
    int nearest = below < above || (below == above && low % 2 == 0) ? low : high;
    *out = kind == CLD_E8M0 || (f->fnuz && nearest == 0) ? (uint8_t)nearest : (uint8_t)(sign | nearest);
    return true;
}
