/* Unary and binary operations, and where. Each operation is one line of a list, expanded to one case of a switch per
 * compute type. The kind is a kernel argument, the same for all threads, and a switch costs nothing compared with
 * memory access. Outputs may be an input's own memory. */
#include "kernels/activation.h"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.cuh"

#include <math.h>

#define WRAP(x, op, y) ((int64_t)((uint64_t)(x)op(uint64_t)(y)))

/* As in PyTorch: a negative power of an integer is 0, except for 1 and -1. */
__device__ static int64_t integer_power(int64_t x, int64_t power) {
    if (power < 0) return x == 1 ? 1 : x == -1 ? (power % 2 ? -1 : 1) : 0;
    uint64_t result = 1, base = (uint64_t)x;
    for (; power; power >>= 1, base *= base)
        if (power & 1) result *= base;
    return (int64_t)result;
}

/* y = -1 is handled separately because INT64_MIN / -1 does not fit into int64. */
__device__ static int64_t floor_divide(int64_t x, int64_t y) {
    if (y == -1) return WRAP(0, -, x);
    int64_t q = x / y;
    return q - (q * y != x && (x < 0) != (y < 0));
}

/* The remainder has the divisor's sign, as in Lua. fmod is exact; it has the dividend's sign. */
template <typename C> __device__ static C remainder_of_floor(C x, C y) {
    C r = fmod(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

/* The floor of the exact quotient, as in Python; x / y may be rounded up to an integer, and -2.3 / inf to -0. */
template <typename C> __device__ static C floor_of_quotient(C x, C y) {
    C r = fmod(x, y);
    if (y == 0 || r == 0) return x / y;
    return rint((x - r) / y) - ((r < 0) != (y < 0)) + 0; /* -0 becomes 0 */
}

/* Long functions are called, not copied into every step, which keeps the kernels' registers and code small. */
#define CALLED(name, value)                                                                                  \
    template <typename C> __device__ __attribute__((noinline)) static C name(C x) { return value; }
CALLED(sine, sin(x))
CALLED(cosine, cos(x))
template <typename C> __device__ __attribute__((noinline)) static C power(C x, C y) { return pow(x, y); }

#define SAME_NAME(name) name
CLD_DEFINE_ACTIVATIONS(float, SAME_NAME, expf, cld_erff)
CLD_DEFINE_ACTIVATIONS(double, SAME_NAME, exp, erf)
CALLED(gelu, cld_gelu(x))
CALLED(gelu_tanh, cld_gelu_tanh(x))
CALLED(silu, cld_silu(x))
CALLED(softplus, cld_softplus(x))
CALLED(gelu_slope, cld_gelu_slope(x))
CALLED(gelu_tanh_slope, cld_gelu_tanh_slope(x))
CALLED(silu_slope, cld_silu_slope(x))

/* ---- unary --------------------------------------------------------------------------------------------------------- */

/* kind, value of x, a, b. A comparison with NaN is false; the conditions are written so that relu and clamp pass NaN
 * through. */
#define UNARY_BOOLEAN(X)                                                                                     \
    X(NOT, x == 0)                                                                                           \
    X(ISNAN, x != x)                                                                                         \
    X(ISFINITE, x - x == 0)                                                                                  \
    X(EQ_SCALAR, x == a)                                                                                     \
    X(NE_SCALAR, x != a)                                                                                     \
    X(LT_SCALAR, x < a)                                                                                      \
    X(LE_SCALAR, x <= a)                                                                                     \
    X(GT_SCALAR, x > a)                                                                                      \
    X(GE_SCALAR, x >= a)
#define UNARY_ANY(X)                                                                                         \
    X(SIGN, (x > 0) - (x < 0))                                                                               \
    X(RELU, x < 0 ? 0 : x)                                                                                   \
    X(CLAMP, a != a ? a : b != b ? b : x < a ? (a > b ? b : a) : x > b ? b : x)
#define UNARY_REAL(X)                                                                                        \
    UNARY_ANY(X)                                                                                             \
    X(NEG, -x)                                                                                               \
    X(ABS, fabs(x))                                                                                          \
    X(EXP, exp(x))                                                                                           \
    X(LOG, log(x))                                                                                           \
    X(SQRT, sqrt(x))                                                                                         \
    X(RSQRT, 1 / sqrt(x))                                                                                    \
    X(SQUARE, x *x)                                                                                          \
    X(RECIPROCAL, 1 / x)                                                                                     \
    X(SIN, sine(x))                                                                                          \
    X(COS, cosine(x))                                                                                        \
    X(TANH, tanh(x))                                                                                         \
    X(SIGMOID, 1 / (1 + exp(-x)))                                                                            \
    X(FLOOR, floor(x))                                                                                       \
    X(CEIL, ceil(x))                                                                                         \
    X(ROUND, rint(x))                                                                                        \
    X(ADD_SCALAR, x + a)                                                                                     \
    X(MUL_SCALAR, x *a)                                                                                      \
    X(POW_SCALAR, power(x, a))                                                                               \
    X(RSUB_SCALAR, a - x)                                                                                    \
    X(RDIV_SCALAR, a / x)                                                                                    \
    X(GELU, gelu(x))                                                                                         \
    X(GELU_TANH, gelu_tanh(x))                                                                               \
    X(SILU, silu(x))                                                                                         \
    X(SOFTPLUS, softplus(x))                                                                                 \
    X(LEAKY_RELU, x > 0 ? x : x * a)
/* Integers wrap around: the arithmetic is unsigned. The other kinds are real; the runtime has cast to f32. */
#define UNARY_INTEGER(X)                                                                                     \
    UNARY_ANY(X)                                                                                             \
    X(NEG, WRAP(0, -, x))                                                                                    \
    X(ABS, x < 0 ? WRAP(0, -, x) : x)                                                                        \
    X(SQUARE, WRAP(x, *, x))                                                                                 \
    X(FLOOR, x)                                                                                              \
    X(CEIL, x)                                                                                               \
    X(ROUND, x)                                                                                              \
    X(ADD_SCALAR, WRAP(x, +, a))                                                                             \
    X(MUL_SCALAR, WRAP(x, *, a))                                                                             \
    X(POW_SCALAR, integer_power(x, a))                                                                       \
    X(RSUB_SCALAR, WRAP(a, -, x))

#define LISTED(kind, value) case CLD_##kind:
static bool is_boolean(cld_unary kind) {
    switch (kind) {
        UNARY_BOOLEAN(LISTED)
        return true;
    default: return false;
    }
}

static bool has_integers(cld_unary kind) {
    switch (kind) {
        UNARY_INTEGER(LISTED)
        return true;
    default: return is_boolean(kind);
    }
}

#define UNARY_CASE(kind, value)                                                                              \
    case CLD_##kind:                                                                                         \
        CLD_UNROLL                                                                                           \
        for (int i = 0; i < E; i++) {                                                                        \
            C x = ::load(r.x[i / V].get(i % V));                                                             \
            r.y[i] = (Y)(value);                                                                             \
        }                                                                                                    \
        break;

/* The scalar in the compute type. */
template <typename C> static inline C value_of(cld_scalar s) { return (C)s.d; }
template <> inline int64_t value_of<int64_t>(cld_scalar s) { return s.i; }

/* BOOLEAN: out is u8. */
template <typename T, bool BOOLEAN> struct unary_job {
    static const int ARRAYS = 2;
    typedef typename cld_compute<T>::type C;
    typedef typename std::conditional<BOOLEAN, uint8_t, T>::type Out;
    typedef typename std::conditional<BOOLEAN, uint8_t, C>::type Y;
    Out *out;
    const T *x;
    cld_unary kind;
    C a, b;
    template <int V, int U> struct registers {
        static const int WIDTH = V, E = U * V;
        cld_pack<T, V> x[U];
        Y y[E];
    };
    void point_at(char *const data[]) {
        out = (Out *)data[0];
        x = (const T *)data[1];
    }
    template <int V, typename R>
    __device__ void load(R &r, int u, const int64_t *at, const bool *same, int left) const {
        load_step<V>(r.x + u, x + at[1], same[1], left, T());
    }
    template <typename R> __device__ void compute(R &r) const {
        const int V = R::WIDTH, E = R::E;
        if constexpr (BOOLEAN) {
            switch (kind) {
                UNARY_BOOLEAN(UNARY_CASE)
            default: break;
            }
        } else if constexpr (cld_is_integer<T>::value) {
            switch (kind) {
                UNARY_INTEGER(UNARY_CASE)
            default: break;
            }
        } else {
            switch (kind) {
                UNARY_REAL(UNARY_CASE)
            default: break;
            }
        }
    }
    template <int V, typename R> __device__ void save(R &r, int u, int64_t at, int left) const {
        Out y[V];
        CLD_UNROLL
        for (int j = 0; j < V; j++) y[j] = store<Out>(r.y[u * V + j]);
        save_step<V>(out + at, y, left);
    }
};

template <typename T>
static cld_status run_unary(cld_unary kind, const cld_walk *w, cld_scalar first, cld_scalar second) {
    typedef typename cld_compute<T>::type C;
    C a = value_of<C>(first), b = value_of<C>(second);
    if (is_boolean(kind)) {
        unary_job<T, true> job = {NULL, NULL, kind, a, b};
        return run_walk<unary_job<T, true>, CLD_WIDTH(T, T)>(job, w);
    }
    unary_job<T, false> job = {NULL, NULL, kind, a, b};
    return run_walk<unary_job<T, false>, CLD_WIDTH(T, T)>(job, w);
}

cld_status cld_cuda_unary(cld_unary kind, const cld_array *out, const cld_array *x, cld_scalar a,
                          cld_scalar b) {
    const cld_array *arrays[] = {out, x};
    bool integer = x->dtype == CLD_I64 || x->dtype == CLD_I32 || x->dtype == CLD_U8;
    if (integer && !has_integers(kind))
        return cld_fail(CLD_UNSUPPORTED, "cuda has no such operation on integers");
    if (cld_numel(out) == 0) return CLD_OK;
    cld_walk w = cld_walk_of(arrays, 2);
    CLD_BY_DTYPE(x->dtype, T, return run_unary<T>(kind, &w, a, b));
    return CLD_OK;
}

/* ---- binary -------------------------------------------------------------------------------------------------------- */

#define BINARY_BOOLEAN(X)                                                                                    \
    X(EQ, x == y)                                                                                            \
    X(NE, x != y)                                                                                            \
    X(LT, x < y)                                                                                             \
    X(LE, x <= y)                                                                                            \
    X(GT, x > y)                                                                                             \
    X(GE, x >= y)                                                                                            \
    X(AND, (x != 0) & (y != 0))                                                                              \
    X(OR, (x != 0) | (y != 0))
/* Maximum and minimum propagate NaN from either side. */
#define BINARY_ANY(X)                                                                                        \
    X(MAXIMUM, x > y || x != x ? x : y)                                                                      \
    X(MINIMUM, x < y || x != x ? x : y)                                                                      \
    X(RELU_BACKWARD, y <= 0 ? 0 : x)
#define BINARY_REAL(X)                                                                                       \
    BINARY_ANY(X)                                                                                            \
    X(ADD, x + y)                                                                                            \
    X(SUB, x - y)                                                                                            \
    X(MUL, x *y)                                                                                             \
    X(DIV, x / y)                                                                                            \
    X(POW, power(x, y))                                                                                      \
    X(FLOOR_DIVIDE, floor_of_quotient(x, y))                                                                 \
    X(REMAINDER, remainder_of_floor(x, y))                                                                   \
    X(GELU_BACKWARD, x *gelu_slope(y))                                                                       \
    X(GELU_TANH_BACKWARD, x *gelu_tanh_slope(y))                                                             \
    X(SILU_BACKWARD, x *silu_slope(y))
#define BINARY_INTEGER(X)                                                                                    \
    BINARY_ANY(X)                                                                                            \
    X(ADD, WRAP(x, +, y))                                                                                    \
    X(SUB, WRAP(x, -, y))                                                                                    \
    X(MUL, WRAP(x, *, y))                                                                                    \
    X(POW, integer_power(x, y))                                                                              \
    X(FLOOR_DIVIDE, floor_divide(x, divisor(y)))                                                             \
    X(REMAINDER, WRAP(x, -, WRAP(floor_divide(x, divisor(y)), *, y)))

#define BINARY_CASE(kind, value)                                                                             \
    case CLD_##kind:                                                                                         \
        CLD_UNROLL                                                                                           \
        for (int i = 0; i < E; i++) {                                                                        \
            C x = ::load(r.x[i / V].get(i % V)), y = ::load(r.y[i / V].get(i % V));                          \
            r.z[i] = (Z)(value);                                                                             \
        }                                                                                                    \
        break;

template <typename T, bool BOOLEAN> struct binary_job {
    static const int ARRAYS = 3;
    typedef typename cld_compute<T>::type C;
    typedef typename std::conditional<BOOLEAN, uint8_t, T>::type Out;
    typedef typename std::conditional<BOOLEAN || cld_is_integer<T>::value, Out, C>::type Z;
    Out *out;
    const T *x, *y;
    cld_binary kind;
    cld_fault *fault;
    template <int V, int U> struct registers {
        static const int WIDTH = V, E = U * V;
        cld_pack<T, V> x[U], y[U];
        Z z[E];
    };
    void point_at(char *const data[]) {
        out = (Out *)data[0];
        x = (const T *)data[1];
        y = (const T *)data[2];
    }
    /* A division of integers by 0 is reported, and a division by 1 takes its place. */
    __device__ int64_t divisor(int64_t v) const {
        if (v != 0) return v;
        report(fault, CLD_FAULT_DIVISION, 0, 0);
        return 1;
    }
    template <int V, typename R>
    __device__ void load(R &r, int u, const int64_t *at, const bool *same, int left) const {
        load_step<V>(r.x + u, x + at[1], same[1], left, T());
        load_step<V>(r.y + u, y + at[2], same[2], left, store<T>(1));
    }
    template <typename R> __device__ void compute(R &r) const {
        const int V = R::WIDTH, E = R::E;
        if constexpr (BOOLEAN) {
            switch (kind) {
                BINARY_BOOLEAN(BINARY_CASE)
            default: break;
            }
        } else if constexpr (cld_is_integer<T>::value) {
            switch (kind) {
                BINARY_INTEGER(BINARY_CASE)
            default: break;
            }
        } else {
            switch (kind) {
                BINARY_REAL(BINARY_CASE)
            default: break;
            }
        }
    }
    template <int V, typename R> __device__ void save(R &r, int u, int64_t at, int left) const {
        Out y[V];
        CLD_UNROLL
        for (int j = 0; j < V; j++) y[j] = store<Out>(r.z[u * V + j]);
        save_step<V>(out + at, y, left);
    }
};

template <typename T> static cld_status run_binary(cld_binary kind, const cld_walk *w) {
    if (kind >= CLD_EQ && kind <= CLD_OR) {
        binary_job<T, true> job = {NULL, NULL, NULL, kind, NULL};
        return run_walk<binary_job<T, true>, CLD_WIDTH(T, T)>(job, w);
    }
    binary_job<T, false> job = {NULL, NULL, NULL, kind, cld_cuda_fault()};
    const int V = sizeof(T) == 1 ? 4 : CLD_WIDTH(T, T); /* each is computed in 8 bytes: 8 would spill */
    return run_walk<binary_job<T, false>, V>(job, w);
}

cld_status cld_cuda_binary(cld_binary kind, const cld_array *out, const cld_array *a, const cld_array *b) {
    const cld_array *arrays[] = {out, a, b};
    bool integer = a->dtype == CLD_I64 || a->dtype == CLD_I32 || a->dtype == CLD_U8;
    if (integer && kind == CLD_DIV)
        return cld_fail(CLD_UNSUPPORTED, "cuda has no such operation on integers");
    if (cld_numel(out) == 0) return CLD_OK;
    cld_walk w = cld_walk_of(arrays, 3);
    CLD_BY_DTYPE(a->dtype, T, return run_binary<T>(kind, &w));
    return CLD_OK;
}

/* ---- where --------------------------------------------------------------------------------------------------------- */

/* Elements of T's size are moved as they are. */
template <typename T> struct where_job {
    static const int ARRAYS = 4;
    T *out;
    const uint8_t *condition;
    const T *x, *y;
    template <int V, int U> struct registers {
        cld_pack<uint8_t, V> c[U];
        cld_pack<T, V> x[U], y[U];
    };
    void point_at(char *const data[]) {
        out = (T *)data[0];
        condition = (const uint8_t *)data[1];
        x = (const T *)data[2];
        y = (const T *)data[3];
    }
    template <int V, typename R>
    __device__ void load(R &r, int u, const int64_t *at, const bool *same, int left) const {
        load_step<V>(r.c + u, condition + at[1], same[1], left, (uint8_t)0);
        load_step<V>(r.x + u, x + at[2], same[2], left, T());
        load_step<V>(r.y + u, y + at[3], same[3], left, T());
    }
    template <typename R> __device__ void compute(R &) const {}
    template <int V, typename R> __device__ void save(R &r, int u, int64_t at, int left) const {
        T y[V];
        CLD_UNROLL
        for (int j = 0; j < V; j++) y[j] = r.c[u].get(j) ? r.x[u].get(j) : r.y[u].get(j);
        save_step<V>(out + at, y, left);
    }
};

static cld_status run_where(size_t size, const cld_walk *w) {
    switch (size) {
    case 1: return run_walk<where_job<uint8_t>, 8>(where_job<uint8_t>(), w);
    case 2: return run_walk<where_job<uint16_t>, 8>(where_job<uint16_t>(), w);
    case 4: return run_walk<where_job<uint32_t>, 4>(where_job<uint32_t>(), w);
    default: return run_walk<where_job<uint64_t>, 2>(where_job<uint64_t>(), w);
    }
}

cld_status cld_cuda_where(const cld_array *out, const cld_array *condition, const cld_array *a,
                          const cld_array *b) {
    const cld_array *arrays[] = {out, condition, a, b};
    if (cld_numel(out) == 0) return CLD_OK;
    if (condition->dtype == CLD_U8) {
        cld_walk w = cld_walk_of(arrays, 4);
        return run_where(cld_dtype_size(out->dtype), &w);
    }
    /* Rare: x has another dtype. */
    CLD_SCRATCH scratch;
    CLD_TRY(cld_cuda_scratch(&scratch, (size_t)cld_numel(out)));
    cld_array is_true = cld_dense_like(condition, CLD_U8, scratch.data);
    CLD_TRY(cld_cuda_unary(CLD_NE_SCALAR, &is_true, condition, cld_integer(0), cld_integer(0)));
    return cld_cuda_where(out, &is_true, a, b);
}
