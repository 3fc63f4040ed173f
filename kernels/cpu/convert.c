/* Conversion between the dtypes in memory and the three types that kernels compute in. 16-bit floats round to nearest
 * even. A float that does not fit into int64 becomes the smallest int64 (as on x86), and integers wrap around in
 * narrower types. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

CLD_INLINE int64_t to_integer(double v) { return v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN; }

#define FROM_BF16(v)  cld_bf16_to_float(v)
#define FROM_OTHER(v) (v)

#define LOAD_LOOP(dtype_name, type, from_form, T)                                                            \
    case CLD_##dtype_name: {                                                                                 \
        const type *x = from;                                                                                \
        if (stride == 1)                                                                                     \
            for (int64_t i = 0; i < n; i++) to[i] = (T)from_form(x[i]);                                      \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) to[i] = (T)from_form(x[i * stride]);                             \
        return;                                                                                              \
    }

#define STORE_LOOP(dtype_name, type, to_form)                                                                \
    case CLD_##dtype_name: {                                                                                 \
        type *y = to;                                                                                        \
        if (stride == 1)                                                                                     \
            for (int64_t i = 0; i < n; i++) y[i] = (type)to_form(from[i]);                                   \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) y[i * stride] = (type)to_form(from[i]);                          \
        return;                                                                                              \
    }

#define DEFINE_FLOAT_CONVERSIONS(name, T)                                                                    \
    CLD_SIMD static void load_##name(T *restrict to, const void *restrict from, cld_dtype dtype,             \
                                     int64_t stride, int64_t n) {                                            \
        switch (dtype) {                                                                                     \
            LOAD_LOOP(F32, float, FROM_OTHER, T)                                                             \
            LOAD_LOOP(F64, double, FROM_OTHER, T)                                                            \
            LOAD_LOOP(BF16, uint16_t, FROM_BF16, T)                                                          \
            LOAD_LOOP(F16, _Float16, FROM_OTHER, T)                                                          \
            LOAD_LOOP(I64, int64_t, FROM_OTHER, T)                                                           \
            LOAD_LOOP(I32, int32_t, FROM_OTHER, T)                                                           \
            LOAD_LOOP(U8, uint8_t, FROM_OTHER, T)                                                            \
        default: return;                                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    CLD_SIMD static void store_##name(void *restrict to, const T *restrict from, cld_dtype dtype,            \
                                      int64_t stride, int64_t n) {                                           \
        switch (dtype) {                                                                                     \
            STORE_LOOP(F32, float, FROM_OTHER)                                                               \
            STORE_LOOP(F64, double, FROM_OTHER)                                                              \
            STORE_LOOP(BF16, uint16_t, cld_bf16_from_float)                                                  \
            STORE_LOOP(F16, _Float16, FROM_OTHER)                                                            \
            STORE_LOOP(I64, int64_t, to_integer)                                                             \
            STORE_LOOP(I32, int32_t, to_integer)                                                             \
            STORE_LOOP(U8, uint8_t, to_integer)                                                              \
        default: return;                                                                                     \
        }                                                                                                    \
    }

DEFINE_FLOAT_CONVERSIONS(float, float)
DEFINE_FLOAT_CONVERSIONS(double, double)

CLD_SIMD static void load_int(int64_t *restrict to, const void *restrict from, cld_dtype dtype,
                              int64_t stride, int64_t n) {
    switch (dtype) {
        LOAD_LOOP(I64, int64_t, FROM_OTHER, int64_t)
        LOAD_LOOP(I32, int32_t, FROM_OTHER, int64_t)
        LOAD_LOOP(U8, uint8_t, FROM_OTHER, int64_t)
    default: return;
    }
}

CLD_SIMD static void store_int(void *restrict to, const int64_t *restrict from, cld_dtype dtype,
                               int64_t stride, int64_t n) {
    switch (dtype) {
        STORE_LOOP(F32, float, FROM_OTHER)
        STORE_LOOP(F64, double, FROM_OTHER)
        STORE_LOOP(BF16, uint16_t, cld_bf16_from_float)
        STORE_LOOP(F16, _Float16, FROM_OTHER)
        STORE_LOOP(I64, int64_t, FROM_OTHER)
        STORE_LOOP(I32, int32_t, FROM_OTHER)
        STORE_LOOP(U8, uint8_t, FROM_OTHER)
    default: return;
    }
}

cld_compute cld__compute_type(cld_dtype dtype) {
    switch (dtype) {
    case CLD_F64: return CLD_COMPUTE_DOUBLE;
    case CLD_F32:
    case CLD_BF16:
    case CLD_F16: return CLD_COMPUTE_FLOAT;
    default: return CLD_COMPUTE_INT;
    }
}

static bool is_compute_type(cld_compute compute, cld_dtype dtype) {
    static const cld_dtype same[] = {
        [CLD_COMPUTE_FLOAT] = CLD_F32, [CLD_COMPUTE_DOUBLE] = CLD_F64, [CLD_COMPUTE_INT] = CLD_I64};
    return same[compute] == dtype;
}

const void *cld__load(cld_compute compute, cld_piece *buffer, const void *from, cld_dtype dtype,
                      int64_t stride, int64_t n) {
    if (stride == 1 && is_compute_type(compute, dtype)) return from;
    switch (compute) {
    case CLD_COMPUTE_FLOAT: load_float(buffer->f, from, dtype, stride, n); break;
    case CLD_COMPUTE_DOUBLE: load_double(buffer->d, from, dtype, stride, n); break;
    case CLD_COMPUTE_INT: load_int(buffer->i, from, dtype, stride, n); break;
    }
    return buffer;
}

void *cld__store_target(cld_compute compute, cld_piece *buffer, void *to, cld_dtype dtype, int64_t stride) {
    return stride == 1 && is_compute_type(compute, dtype) ? to : buffer;
}

void cld__store(cld_compute compute, const void *from, void *to, cld_dtype dtype, int64_t stride, int64_t n) {
    if (from == to) return;
    switch (compute) {
    case CLD_COMPUTE_FLOAT: store_float(to, from, dtype, stride, n); break;
    case CLD_COMPUTE_DOUBLE: store_double(to, from, dtype, stride, n); break;
    case CLD_COMPUTE_INT: store_int(to, from, dtype, stride, n); break;
    }
}
