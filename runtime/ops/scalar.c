/* A tensor and a number. Most of these have a kernel with one operand; if there is none, the number becomes a 0-d
 * tensor. Integers stay exact: see cld_scalar. */
#include <math.h>
#include <stdlib.h>

#include "runtime/ops/ops.h"

/* ---- the number as a tensor ---------------------------------------------------------------------------- */

static cld_status check_number(const char *op, cld_scalar s, cld_dtype dtype) {
    if (cld_dtype_is_float(dtype)) return CLD_OK;
    if (!s.is_integer)
        return cld_fail(CLD_INVALID, "%s: the value is %f, which is not an integer, as %s needs", op, s.d,
                        cld_dtype_name(dtype));
    int64_t least = dtype == CLD_U8 ? 0 : dtype == CLD_I32 ? INT32_MIN : INT64_MIN;
    int64_t most = dtype == CLD_U8 ? UINT8_MAX : dtype == CLD_I32 ? INT32_MAX : INT64_MAX;
    if (s.i >= least && s.i <= most) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the value is %lld, which %s cannot hold", op, (long long)s.i,
                    cld_dtype_name(dtype));
}

cld_tensor *cld_number(const char *op, cld_scalar s, cld_dtype dtype, const cld_backend *device) {
    CLD_TRY_NULL(check_number(op, s, dtype));
    return cld_tensor_scalar(dtype, s, device);
}

cld_tensor *cld_operand(const char *op, cld_scalar s, const cld_tensor *like) {
    bool fits = cld_dtype_is_float(like->a.dtype) || s.is_integer;
    return cld_number(op, s, fits ? like->a.dtype : CLD_F32, cld_device(like));
}

cld_status cld_fill_(const char *op, cld_tensor *x, cld_scalar s) {
    CLD_TRY(cld_check_in_place(op, x));
    CLD_TRY(check_number(op, s, x->a.dtype));
    return cld_tensor_fill(x, s);
}

/* ---- which kernel -------------------------------------------------------------------------------------- */

/* The one-operand kernel for `x op s` and for `s op x`, if there is one. Subtraction adds -s; division by a number is
 * left to the two-operand kernel, because multiplying by 1/s would round twice, unless s is a power of 2. */
typedef struct scalar_form {
    bool right, left;
    cld_unary right_kind, left_kind;
} scalar_form;

static const scalar_form scalar_forms[CLD_RELU_BACKWARD + 1] = {
    /* the others have none */
    [CLD_ADD] = {.right = true, .right_kind = CLD_ADD_SCALAR},
    [CLD_SUB] = {true, true, CLD_ADD_SCALAR, CLD_RSUB_SCALAR},
    [CLD_MUL] = {.right = true, .right_kind = CLD_MUL_SCALAR},
    [CLD_DIV] = {.left = true, .left_kind = CLD_RDIV_SCALAR},
    [CLD_POW] = {.right = true, .right_kind = CLD_POW_SCALAR},
    [CLD_EQ] = {.right = true, .right_kind = CLD_EQ_SCALAR},
    [CLD_NE] = {.right = true, .right_kind = CLD_NE_SCALAR},
    [CLD_LT] = {.right = true, .right_kind = CLD_LT_SCALAR},
    [CLD_LE] = {.right = true, .right_kind = CLD_LE_SCALAR},
    [CLD_GT] = {.right = true, .right_kind = CLD_GT_SCALAR},
    [CLD_GE] = {.right = true, .right_kind = CLD_GE_SCALAR},
};

/* Whether s op x is x op' s for some op'. */
static bool turned_round(cld_binary kind, cld_binary *other) {
    switch (kind) {
    case CLD_LT: *other = CLD_GT; return true;
    case CLD_LE: *other = CLD_GE; return true;
    case CLD_GT: *other = CLD_LT; return true;
    case CLD_GE: *other = CLD_LE; return true;
    case CLD_SUB:
    case CLD_DIV:
    case CLD_POW:
    case CLD_FLOOR_DIVIDE:
    case CLD_REMAINDER: return false;
    default: *other = kind; return true;
    }
}

static bool is_power_of_2(double s) {
    int exponent;
    return fabs(frexp(s, &exponent)) == 0.5 && abs(exponent) < 100; /* so that f32 has 1/s */
}

/* Is there a kernel with one operand, for an x of this dtype, whose result has that dtype or is u8? *s: its number. */
static bool one_operand(cld_binary kind, cld_side side, cld_dtype dtype, cld_scalar *s, cld_unary *out) {
    const scalar_form *form = &scalar_forms[kind];
    bool real = cld_dtype_is_float(dtype);
    if (!real && !s->is_integer) return false;
    if (side == CLD_NUMBER_LEFT) {
        *out = form->left_kind;
        return form->left;
    }
    if (kind == CLD_DIV && real && is_power_of_2(s->d)) {
        *s = cld_real(1 / s->d);
        *out = CLD_MUL_SCALAR;
        return true;
    }
    if (kind == CLD_SUB) *s = (cld_scalar){s->is_integer, (int64_t)(0 - (uint64_t)s->i), -s->d};
    *out = form->right_kind;
    return form->right;
}

/* ---- x op s -------------------------------------------------------------------------------------------- */

/* Integers are compared exactly with a number that is not an integer: x > 2.5 becomes x > 2. */
static cld_tensor *compare_integers(cld_binary kind, cld_tensor *x, double s) {
    bool below = kind == CLD_LT || kind == CLD_LE, reached = s >= -0x1p63 && s < 0x1p63;
    if (kind != CLD_EQ && kind != CLD_NE && reached)
        return cld_unary_with(below ? CLD_LE_SCALAR : CLD_GT_SCALAR, x, cld_real(floor(s)), cld_integer(0));
    bool all = kind == CLD_NE || (kind != CLD_EQ && (below ? s > 0 : s < 0));
    return cld_tensor_full(CLD_U8, x->a.ndim, x->a.shape, cld_device(x), all);
}

cld_tensor *cld_binary_scalar(cld_binary kind, cld_tensor *x, cld_scalar s, cld_side side) {
    cld_unary unary;
    if (side == CLD_NUMBER_LEFT && turned_round(kind, &kind)) side = CLD_NUMBER_RIGHT;
    bool real = cld_dtype_is_float(x->a.dtype);
    if (kind >= CLD_EQ && kind <= CLD_GE && !real && !s.is_integer) return compare_integers(kind, x, s.d);
    if (one_operand(kind, side, x->a.dtype, &s, &unary)) return cld_unary_with(unary, x, s, cld_integer(0));
    const char *op = cld_binary_name(kind);
    CLD_AUTO cld_tensor *number = kind == CLD_DIV && !real /* integers are divided as f32 */
                                      ? cld_number(op, s, CLD_F32, cld_device(x))
                                      : cld_operand(op, s, x);
    if (!number) return NULL;
    return side == CLD_NUMBER_LEFT ? cld_binary_op(kind, number, x) : cld_binary_op(kind, x, number);
}

cld_status cld_binary_scalar_(const char *op, cld_binary kind, cld_tensor *x, cld_scalar s) {
    cld_unary unary;
    CLD_TRY(cld_check_in_place(op, x));
    if (one_operand(kind, CLD_NUMBER_RIGHT, x->a.dtype, &s, &unary)) {
        atomic_fetch_add(&x->storage->version, 1);
        return cld_kernel(cld_device(x), math, unary, unary, &x->a, &x->a, s, cld_integer(0));
    }
    CLD_AUTO cld_tensor *y = cld_binary_scalar(kind, x, s, CLD_NUMBER_RIGHT);
    return y ? cld_store_(op, x, y) : cld_error_code();
}
