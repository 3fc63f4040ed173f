/* Unary and binary operations, and where. Each operation is one line of a list, expanded to one loop per compute type;
 * convert.c and walk.c deal with dtypes and strides. Comparisons give 0 or 1, stored as u8. */
#include "kernels/activation.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

/* Outputs may be an input's own memory: element i depends only on element i. */
#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)

/* ---- unary --------------------------------------------------------------------------------------------- */

/* kind, value of x, a, b; C(name) is the C library's function for the type, E its exponential. A comparison with NaN is
 * false; the conditions are written so that relu and clamp pass NaN through. */
#define UNARY_REAL(X, C, E)                                                                                  \
    X(NEG, -x)                                                                                               \
    X(ABS, C(fabs)(x))                                                                                       \
    X(SIGN, (x > 0) - (x < 0))                                                                               \
    X(EXP, E(x))                                                                                             \
    X(LOG, C(log)(x))                                                                                        \
    X(SQRT, C(sqrt)(x))                                                                                      \
    X(RSQRT, 1 / C(sqrt)(x))                                                                                 \
    X(SQUARE, x *x)                                                                                          \
    X(RECIPROCAL, 1 / x)                                                                                     \
    X(SIN, C(sin)(x))                                                                                        \
    X(COS, C(cos)(x))                                                                                        \
    X(TANH, C(tanh)(x))                                                                                      \
    X(SIGMOID, 1 / (1 + E(-x)))                                                                              \
    X(RELU, x < 0 ? 0 : x)                                                                                   \
    X(FLOOR, C(floor)(x))                                                                                    \
    X(CEIL, C(ceil)(x))                                                                                      \
    X(ROUND, C(rint)(x))                                                                                     \
    X(NOT, x == 0)                                                                                           \
    X(ISNAN, x != x)                                                                                         \
    X(ISFINITE, x - x == 0)                                                                                  \
    X(ADD_SCALAR, x + a)                                                                                     \
    X(MUL_SCALAR, x *a)                                                                                      \
    X(POW_SCALAR, C(pow)(x, a))                                                                              \
    X(RSUB_SCALAR, a - x)                                                                                    \
    X(RDIV_SCALAR, a / x)                                                                                    \
    X(CLAMP, a != a ? a : b != b ? b : x < a ? (a > b ? b : a) : x > b ? b : x)                              \
    X(GELU, C(cld_gelu)(x))                                                                                  \
    X(GELU_TANH, C(cld_gelu_tanh)(x))                                                                        \
    X(SILU, C(cld_silu)(x))                                                                                  \
    X(SOFTPLUS, C(cld_softplus)(x))                                                                          \
    X(LEAKY_RELU, x > 0 ? x : x * a)                                                                         \
    X(EQ_SCALAR, x == a)                                                                                     \
    X(NE_SCALAR, x != a)                                                                                     \
    X(LT_SCALAR, x < a)                                                                                      \
    X(LE_SCALAR, x <= a)                                                                                     \
    X(GT_SCALAR, x > a)                                                                                      \
    X(GE_SCALAR, x >= a)

/* Integers wrap around: the arithmetic is done unsigned. The other kinds are real; the runtime has cast to f32. */
#define WRAP(x, op, y) ((int64_t)((uint64_t)(x)op(uint64_t)(y)))
#define UNARY_INT(X)                                                                                         \
    X(NEG, WRAP(0, -, x))                                                                                    \
    X(ABS, x < 0 ? WRAP(0, -, x) : x)                                                                        \
    X(SIGN, (x > 0) - (x < 0))                                                                               \
    X(SQUARE, WRAP(x, *, x))                                                                                 \
    X(RELU, x < 0 ? 0 : x)                                                                                   \
    X(FLOOR, x)                                                                                              \
    X(CEIL, x)                                                                                               \
    X(ROUND, x)                                                                                              \
    X(NOT, x == 0)                                                                                           \
    X(ISNAN, x != x)                                                                                         \
    X(ISFINITE, x == x)                                                                                      \
    X(ADD_SCALAR, WRAP(x, +, a))                                                                             \
    X(MUL_SCALAR, WRAP(x, *, a))                                                                             \
    X(POW_SCALAR, int_pow(x, a))                                                                             \
    X(RSUB_SCALAR, WRAP(a, -, x))                                                                            \
    X(CLAMP, x<a ? (a > b ? b : a) : x> b ? b : x)                                                           \
    X(EQ_SCALAR, x == a)                                                                                     \
    X(NE_SCALAR, x != a)                                                                                     \
    X(LT_SCALAR, x < a)                                                                                      \
    X(LE_SCALAR, x <= a)                                                                                     \
    X(GT_SCALAR, x > a)                                                                                      \
    X(GE_SCALAR, x >= a)

/* As in PyTorch: a negative power of an integer is 0, except for 1 and -1. */
static int64_t int_pow(int64_t x, int64_t power) {
    if (power < 0) return x == 1 ? 1 : x == -1 ? (power % 2 ? -1 : 1) : 0;
    uint64_t result = 1, base = (uint64_t)x;
    for (; power; power >>= 1, base *= base)
        if (power & 1) result *= base;
    return (int64_t)result;
}

#define FLOAT_FN(name)  name##f
#define DOUBLE_FN(name) name
CLD_DEFINE_ACTIVATIONS(float, FLOAT_FN, cld_expf, cld_erff)
CLD_DEFINE_ACTIVATIONS(double, DOUBLE_FN, exp, erf)

#define UNARY_CASE(kind, value)                                                                              \
    case CLD_##kind:                                                                                         \
        LOOP {                                                                                               \
            real x = in[i];                                                                                  \
            out[i] = value;                                                                                  \
        }                                                                                                    \
        break;

CLD_SIMD static void unary_float(cld_unary kind, float *out, const float *in, int64_t n, float a, float b) {
    typedef float real;
    switch (kind) { UNARY_REAL(UNARY_CASE, FLOAT_FN, cld_expf) }
}

CLD_SIMD static void unary_double(cld_unary kind, double *out, const double *in, int64_t n, double a,
                                  double b) {
    typedef double real;
    switch (kind) { UNARY_REAL(UNARY_CASE, DOUBLE_FN, exp) }
}

CLD_SIMD static void unary_int(cld_unary kind, int64_t *out, const int64_t *in, int64_t n, int64_t a,
                               int64_t b) {
    typedef int64_t real;
    switch (kind) {
        UNARY_INT(UNARY_CASE)
    default: break;
    }
}

static bool int_has_unary(cld_unary kind) {
#define UNARY_LISTED(kind, value) case CLD_##kind:
    switch (kind) {
        UNARY_INT(UNARY_LISTED)
        return true;
    default: return false;
    }
}

typedef struct unary_job {
    cld_unary kind;
    cld_compute compute;
    cld_dtype out, x;
    cld_scalar a, b;
} unary_job;

static void unary_body(const void *context, char *const data[], const int64_t strides[], int64_t n) {
    const unary_job *j = context;
    cld_piece x_buffer, out_buffer;
    const void *x = cld__load(j->compute, &x_buffer, data[1], j->x, strides[1], n);
    void *out = cld__store_target(j->compute, &out_buffer, data[0], j->out, strides[0]);
    switch (j->compute) {
    case CLD_COMPUTE_FLOAT: unary_float(j->kind, out, x, n, (float)j->a.d, (float)j->b.d); break;
    case CLD_COMPUTE_DOUBLE: unary_double(j->kind, out, x, n, j->a.d, j->b.d); break;
    case CLD_COMPUTE_INT: unary_int(j->kind, out, x, n, j->a.i, j->b.i); break;
    }
    cld__store(j->compute, out, data[0], j->out, strides[0], n);
}

cld_status cld__unary(cld_unary kind, const cld_array *out, const cld_array *x, cld_scalar a, cld_scalar b) {
    unary_job job = {kind, cld__compute_type(x->dtype), out->dtype, x->dtype, a, b};
    if (job.compute == CLD_COMPUTE_INT && !int_has_unary(kind))
        return cld_fail(CLD_UNSUPPORTED, "the cpu has no such operation on integers");
    cld__walk((const cld_array *[]){out, x}, 2, unary_body, &job);
    return CLD_OK;
}

/* ---- binary -------------------------------------------------------------------------------------------- */

/* maximum and minimum propagate NaN from either side. */
#define BINARY_COMMON(X)                                                                                     \
    X(EQ, x == y)                                                                                            \
    X(NE, x != y)                                                                                            \
    X(LT, x < y)                                                                                             \
    X(LE, x <= y)                                                                                            \
    X(GT, x > y)                                                                                             \
    X(GE, x >= y)                                                                                            \
    X(AND, (x != 0) & (y != 0))                                                                              \
    X(OR, (x != 0) | (y != 0))                                                                               \
    X(MAXIMUM, x > y || x != x ? x : y)                                                                      \
    X(MINIMUM, x < y || x != x ? x : y)                                                                      \
    X(RELU_BACKWARD, y <= 0 ? 0 : x)
#define BINARY_REAL(X, C)                                                                                    \
    BINARY_COMMON(X)                                                                                         \
    X(ADD, x + y)                                                                                            \
    X(SUB, x - y)                                                                                            \
    X(MUL, x *y)                                                                                             \
    X(DIV, x / y)                                                                                            \
    X(POW, C(pow)(x, y))                                                                                     \
    X(FLOOR_DIVIDE, C(floor_of_quotient)(x, y))                                                              \
    X(REMAINDER, C(remainder_of_floor)(x, y))                                                                \
    X(GELU_BACKWARD, x *C(cld_gelu_slope)(y))                                                                \
    X(GELU_TANH_BACKWARD, x *C(cld_gelu_tanh_slope)(y))                                                      \
    X(SILU_BACKWARD, x *C(cld_silu_slope)(y))
#define BINARY_INT(X)                                                                                        \
    BINARY_COMMON(X)                                                                                         \
    X(ADD, WRAP(x, +, y))                                                                                    \
    X(SUB, WRAP(x, -, y))                                                                                    \
    X(MUL, WRAP(x, *, y))                                                                                    \
    X(POW, int_pow(x, y))                                                                                    \
    X(FLOOR_DIVIDE, int_floor_divide(x, y))                                                                  \
    X(REMAINDER, WRAP(x, -, WRAP(int_floor_divide(x, y), *, y)))

/* The remainder has the divisor's sign, as in Lua. fmod is exact; it has the dividend's sign. The floor is that of the
 * exact quotient, as in Python; x / y may be rounded up to an integer, and -2.3 / inf to -0. */
#define DEFINE_DIVISION(real, C)                                                                             \
    static inline real C(remainder_of_floor)(real x, real y) {                                               \
        real r = C(fmod)(x, y);                                                                              \
        return r != 0 && (r < 0) != (y < 0) ? r + y : r;                                                     \
    }                                                                                                        \
    static inline real C(floor_of_quotient)(real x, real y) {                                                \
        real r = C(fmod)(x, y);                                                                              \
        if (y == 0 || !(r != 0)) return y == 0 ? x / y : C(rint)(x / y);                                     \
        return C(rint)((x - r) / y) - ((r < 0) != (y < 0)) + 0; /* -0 becomes 0 */                           \
    }
DEFINE_DIVISION(float, FLOAT_FN)
DEFINE_DIVISION(double, DOUBLE_FN)

/* y is not 0; y = -1 is handled separately because INT64_MIN / -1 traps. */
static inline int64_t int_floor_divide(int64_t x, int64_t y) {
    if (y == -1) return WRAP(0, -, x);
    int64_t q = x / y;
    return q - (q * y != x && (x < 0) != (y < 0));
}

#define BINARY_CASE(kind, value)                                                                             \
    case CLD_##kind:                                                                                         \
        LOOP {                                                                                               \
            real x = a[i], y = b[i];                                                                         \
            out[i] = value;                                                                                  \
        }                                                                                                    \
        break;

CLD_SIMD static void binary_float(cld_binary kind, float *out, const float *a, const float *b, int64_t n) {
    typedef float real;
    switch (kind) { BINARY_REAL(BINARY_CASE, FLOAT_FN) }
}

CLD_SIMD static void binary_double(cld_binary kind, double *out, const double *a, const double *b,
                                   int64_t n) {
    typedef double real;
    switch (kind) { BINARY_REAL(BINARY_CASE, DOUBLE_FN) }
}

CLD_SIMD static void binary_int(cld_binary kind, int64_t *out, const int64_t *a, const int64_t *b,
                                int64_t n) {
    typedef int64_t real;
    switch (kind) {
        BINARY_INT(BINARY_CASE)
    default: break;
    }
}

typedef struct binary_job {
    cld_binary kind;
    cld_compute compute;
    cld_dtype out, a, b;
} binary_job;

static void binary_body(const void *context, char *const data[], const int64_t strides[], int64_t n) {
    const binary_job *j = context;
    cld_piece a_buffer, b_buffer, out_buffer;
    const void *a = cld__load(j->compute, &a_buffer, data[1], j->a, strides[1], n);
    const void *b = cld__load(j->compute, &b_buffer, data[2], j->b, strides[2], n);
    void *out = cld__store_target(j->compute, &out_buffer, data[0], j->out, strides[0]);
    switch (j->compute) {
    case CLD_COMPUTE_FLOAT: binary_float(j->kind, out, a, b, n); break;
    case CLD_COMPUTE_DOUBLE: binary_double(j->kind, out, a, b, n); break;
    case CLD_COMPUTE_INT: binary_int(j->kind, out, a, b, n); break;
    }
    cld__store(j->compute, out, data[0], j->out, strides[0], n);
}

cld_status cld__binary(cld_binary kind, const cld_array *out, const cld_array *a, const cld_array *b) {
    binary_job job = {kind, cld__compute_type(a->dtype), out->dtype, a->dtype, b->dtype};
    if (job.compute == CLD_COMPUTE_INT && kind == CLD_DIV)
        return cld_fail(CLD_UNSUPPORTED, "the cpu has no such operation on integers");
    cld__walk((const cld_array *[]){out, a, b}, 3, binary_body, &job);
    return CLD_OK;
}

/* ---- where --------------------------------------------------------------------------------------------- */

typedef struct where_job {
    cld_compute compute;
    cld_dtype value, condition;
} where_job;

/* Both values are read, so that the loop needs no branch. M: the type of the condition. */
#define DEFINE_WHERE(name, T, M)                                                                             \
    CLD_SIMD static void where_##name(T *out, const M *c, const T *a, const T *b, int64_t n) {               \
        LOOP {                                                                                               \
            T x = a[i], y = b[i];                                                                            \
            out[i] = c[i] != 0 ? x : y;                                                                      \
        }                                                                                                    \
    }
DEFINE_WHERE(float, float, uint8_t)
DEFINE_WHERE(double, double, uint8_t)
DEFINE_WHERE(int, int64_t, uint8_t)
DEFINE_WHERE(float_by_number, float, double)
DEFINE_WHERE(double_by_number, double, double)
DEFINE_WHERE(int_by_number, int64_t, double)

static void where_body(const void *context, char *const data[], const int64_t strides[], int64_t n) {
    const where_job *j = context;
    cld_piece c_buffer, a_buffer, b_buffer, out_buffer;
    const void *a = cld__load(j->compute, &a_buffer, data[2], j->value, strides[2], n);
    const void *b = cld__load(j->compute, &b_buffer, data[3], j->value, strides[3], n);
    void *out = cld__store_target(j->compute, &out_buffer, data[0], j->value, strides[0]);
    if (j->condition == CLD_U8 && strides[1] == 1) {
        const uint8_t *c = (const uint8_t *)data[1];
        switch (j->compute) {
        case CLD_COMPUTE_FLOAT: where_float(out, c, a, b, n); break;
        case CLD_COMPUTE_DOUBLE: where_double(out, c, a, b, n); break;
        case CLD_COMPUTE_INT: where_int(out, c, a, b, n); break;
        }
    } else {
        const double *c = cld__load(CLD_COMPUTE_DOUBLE, &c_buffer, data[1], j->condition, strides[1], n);
        switch (j->compute) {
        case CLD_COMPUTE_FLOAT: where_float_by_number(out, c, a, b, n); break;
        case CLD_COMPUTE_DOUBLE: where_double_by_number(out, c, a, b, n); break;
        case CLD_COMPUTE_INT: where_int_by_number(out, c, a, b, n); break;
        }
    }
    cld__store(j->compute, out, data[0], j->value, strides[0], n);
}

cld_status cld__where(const cld_array *out, const cld_array *condition, const cld_array *a,
                      const cld_array *b) {
    where_job job = {cld__compute_type(out->dtype), out->dtype, condition->dtype};
    cld__walk((const cld_array *[]){out, condition, a, b}, 4, where_body, &job);
    return CLD_OK;
}
