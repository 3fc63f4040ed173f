/* Reductions, softmax and whatever else runs along dimensions.
 *
 * x:sum() takes all dimensions, x:sum(2) one, x:sum({1, 2}) several; keepdim, true or false, comes next. */
#include "bindings/tensor.h"

#include <string.h>

/* Reads the dimensions at arg and returns how many; nil means all, and returns 0. */
static int check_dims(lua_State *L, int arg, const cld_tensor *x, int dims[CLD_MAX_DIMS]) {
    return lua_isnoneornil(L, arg) ? 0 : cldL_check_lines(L, arg, x, dims);
}

/* ---- over some dimensions ------------------------------------------------------------------------------ */

typedef cld_tensor *reduction(cld_tensor *x, const int *dims, int ndims, bool keepdim);

static int reduce_at(lua_State *L, reduction *f, int arg) {
    cldL_check_count(L, arg + 1);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dims[CLD_MAX_DIMS], ndims = check_dims(L, arg, x, dims);
    bool keepdim = cldL_check_flag(L, arg + 1, false);
    cld_tensor **out = cldL_new_tensor(L);
    *out = f(x, ndims ? dims : NULL, ndims, keepdim);
    return cldL_result(L, *out);
}

/* --- x:sum([dims[, keepdim = false]]) -> tensor: the sum of all elements, or along a dimension or a table
 * of them, counted from 1 or, negative, from the end. Integers add up to i64; floats keep their dtype.
 * keepdim keeps the summed dimensions with extent 1.
 *
 *     local x = cld.tensor { { 1, 2 }, { 3, 4 } }
 *     print(x:sum():item())                     --> 10.0
 *     print(x:sum(2):totable()[2])              --> 7.0 */
static int reduce_sum(lua_State *L) { return reduce_at(L, cld_sum, 2); }
/* --- x:mean([dims[, keepdim = false]]) -> tensor: the mean, as sum. Floats only: call :float() on integers
 * first. NaN if there is nothing to average. */
static int reduce_mean(lua_State *L) { return reduce_at(L, cld_mean, 2); }
/* --- x:prod([dims[, keepdim = false]]) -> tensor: the product, as sum; i64 for integers. */
static int reduce_prod(lua_State *L) { return reduce_at(L, cld_prod, 2); }
/* --- x:amax([dims[, keepdim = false]]) -> tensor: the largest element along one or several dimensions, or
 * of all. Equal elements share the gradient; x:max(dim) gives it to the first and returns positions too. */
static int reduce_amax(lua_State *L) { return reduce_at(L, cld_amax, 2); }
/* --- x:amin([dims[, keepdim = false]]) -> tensor: the smallest element, as amax. */
static int reduce_amin(lua_State *L) { return reduce_at(L, cld_amin, 2); }
/* --- x:any([dims[, keepdim = false]]) -> u8 tensor: 1 where any element is not 0. */
static int reduce_any(lua_State *L) { return reduce_at(L, cld_any, 2); }
/* --- x:all([dims[, keepdim = false]]) -> u8 tensor: 1 where no element is 0.
 *
 *     local x = cld.tensor { 1, 2, 3 }
 *     print(x:gt(0):all():item() == 1)          --> true */
static int reduce_all(lua_State *L) { return reduce_at(L, cld_all, 2); }

/* --- x:logsumexp([dims[, keepdim = false]]) -> tensor: log of the sum of exp(x), without overflow. */
static int reduce_logsumexp(lua_State *L) { return reduce_at(L, cld_logsumexp, 2); }

/* --- x:norm([p = 2[, dims[, keepdim = false]]]) -> tensor: the p-norm of all elements or along dimensions;
 * math.huge gives the largest absolute value. Floats only. */
static int reduce_norm(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    double p = luaL_optnumber(L, 2, 2);
    int dims[CLD_MAX_DIMS], ndims = check_dims(L, 3, x, dims);
    bool keepdim = cldL_check_flag(L, 4, false);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_norm(x, p, ndims ? dims : NULL, ndims, keepdim);
    return cldL_result(L, *out);
}

typedef cld_tensor *deviation(cld_tensor *x, const int *dims, int ndims, bool unbiased, bool keepdim);

/* x:var([dims[, unbiased = true[, keepdim]]]), x:std(...) */
static int reduce_deviation(lua_State *L, deviation *f) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dims[CLD_MAX_DIMS], ndims = check_dims(L, 2, x, dims);
    bool unbiased = cldL_check_flag(L, 3, true), keepdim = cldL_check_flag(L, 4, false);
    cld_tensor **out = cldL_new_tensor(L);
    *out = f(x, ndims ? dims : NULL, ndims, unbiased, keepdim);
    return cldL_result(L, *out);
}

/* --- x:var([dims[, unbiased = true[, keepdim = false]]]) -> tensor: the variance; unbiased divides by n -
 * 1, else by n. Floats only. */
static int reduce_var(lua_State *L) { return reduce_deviation(L, cld_var); }
/* --- x:std([dims[, unbiased = true[, keepdim = false]]]) -> tensor: the standard deviation, as var. */
static int reduce_std(lua_State *L) { return reduce_deviation(L, cld_std); }

/* ---- the position of an extreme ------------------------------------------------------------------------ */

typedef cld_tensor *arg_reduction(cld_tensor *x, int dim, bool keepdim);

/* x:argmax([dim[, keepdim]]): 0-based; without dim, the position in row-major order. */
static int arg_reduce(lua_State *L, arg_reduction *f) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    bool whole = lua_isnoneornil(L, 2), keepdim = cldL_check_flag(L, 3, false);
    int dim = whole ? 0 : cldL_check_line(L, 2, x);
    cld_tensor **flat = cldL_new_tensor(L), **out = cldL_new_tensor(L);
    *flat = whole ? cld_flatten(x, 0, -1) : cld_tensor_retain(x);
    *out = *flat ? f(*flat, dim, keepdim && !whole) : NULL;
    cldL_close(flat);
    return cldL_result(L, *out);
}

/* --- x:argmax([dim[, keepdim = false]]) -> i64 tensor: the position of the largest element, counted from 0 like
 * every integer inside a tensor; without dim, in row-major order. If several are equal, the first.
 *
 *     print(cld.tensor({ 5, 9, 2 }):argmax():item())  --> 1 */
static int reduce_argmax(lua_State *L) { return arg_reduce(L, cld_argmax); }
/* --- x:argmin([dim[, keepdim = false]]) -> i64 tensor: the position of the smallest element, as argmax. */
static int reduce_argmin(lua_State *L) { return arg_reduce(L, cld_argmin); }

typedef cld_tensor *extreme_at(cld_tensor **index, cld_tensor *x, int dim, bool keepdim);

/* x:max() the largest; x:max(y) elementwise; x:max(dim[, keepdim]) values and their (0-based) positions: then
 * the gradient goes only to those positions. */
static int extreme(lua_State *L, reduction *all, extreme_at *along, cld_binary elementwise) {
    if (lua_isnoneornil(L, 2)) return reduce_at(L, all, 2);
    if (cldL_test_tensor(L, 2)) return cldL_binary(L, elementwise);
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_line(L, 2, x);
    bool keepdim = cldL_check_flag(L, 3, false);
    cld_tensor **values = cldL_new_tensor(L), **index = cldL_new_tensor(L);
    *values = along(index, x, dim, keepdim);
    if (!*values) return cldL_raise(L);
    return 2;
}

/* --- x:max() -> tensor, x:max(y), x:max(dim[, keepdim = false]) -> values, positions: the largest of all;
 * the larger of each pair (as maximum); or the largest along a dimension and its i64 position from 0, the only
 * one that the gradient goes to.
 *
 *     local values, positions = cld.tensor({ { 1, 7 }, { 9, 3 } }):max(2)
 *     print(values[1]:item(), positions[1]:item())    --> 7.0 1 */
static int reduce_max(lua_State *L) { return extreme(L, cld_amax, cld_max_at, CLD_MAXIMUM); }
/* --- x:min() -> tensor, x:min(y), x:min(dim[, keepdim = false]) -> values, positions: the smallest, as max. */
static int reduce_min(lua_State *L) { return extreme(L, cld_amin, cld_min_at, CLD_MINIMUM); }

/* ---- along one dimension ------------------------------------------------------------------------------- */

typedef cld_tensor *along(cld_tensor *x, int dim);

static int along_dim(lua_State *L, along *f) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = lua_isnoneornil(L, 2) ? -1 : cldL_check_line(L, 2, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = f(x, dim);
    return cldL_result(L, *out);
}

/* --- x:softmax([dim = -1]) -> tensor: exp(x) divided by its sum along dim, by default the last (PyTorch
 * requires dim). Floats only. */
static int reduce_softmax(lua_State *L) { return along_dim(L, cld_softmax); }
/* --- x:log_softmax([dim = -1]) -> tensor: the log of softmax, without overflow. */
static int reduce_log_softmax(lua_State *L) { return along_dim(L, cld_log_softmax); }
/* --- x:normalize([dim = -1]) -> tensor: x divided by its Euclidean length along dim, as
 * torch.nn.functional.normalize, but along the last dimension by default. A line of zeros stays zero.
 *
 *     print(cld.tensor({ 3, 4 }):normalize():norm():item())  --> 1.0 */
static int reduce_normalize(lua_State *L) { return along_dim(L, cld_normalize); }

/* --- x:cumsum(dim) -> tensor: the sums of all elements up to each one along dim; i64 for integers. */
static int reduce_cumsum(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_line(L, 2, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_cumsum(x, dim);
    return cldL_result(L, *out);
}

/* --- x:eigvalsh() -> tensor: the eigenvalues (n), ascending, of a symmetric matrix (n, n). Only its lower
 * half is read; it is computed on the host in f64. */
static int reduce_eigvalsh(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_eigvalsh(x);
    return cldL_result(L, *out);
}

/* --- x:eigh([k]) -> values, vectors: for a symmetric matrix (n, n), f32 or f64, or for each of (count, n, n),
 * of which only the lower half is read: the eigenvalues (n), ascending, and the eigenvectors of the k smallest
 * (default all), the columns of (n, k). They have unit length, and their largest entry by absolute value is
 * positive. All results are NaN if a value is not finite. */
static int reduce_eigh(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer k = luaL_optinteger(L, 2, x->a.ndim > 0 ? x->a.shape[x->a.ndim - 1] : 0);
    cld_tensor **values = cldL_new_tensor(L), **vectors = cldL_new_tensor(L);
    *values = cld_eigh(vectors, x, k);
    cldL_result(L, *values);
    return 2;
}

/* --- x:cross_entropy(labels[, {reduction = "mean"|"sum"|"none", temperature = 1, label_smoothing = 0,
 * ignore_index = -100, accuracy = false}]) -> loss[, accuracy]: x are logits (n, classes), or (n, classes,
 * ...), or (classes); labels are i64 (n), (n, ...) or of no dimension, counted from 0, or probabilities of
 * x's shape. Logits are divided by the temperature; rows labelled ignore_index are left out of everything. With
 * accuracy there is a second result: the share of rows whose largest logit is at their label, f32.
 *
 *     local logits = cld.tensor { { 9, 0 }, { 0, 9 } }
 *     local loss, share = logits:cross_entropy(cld.tensor({ 0, 1 }, "i64"), { accuracy = true })
 *     print(loss:item() < 1e-3, share:item())         --> true 1.0 */
static int reduce_cross_entropy(lua_State *L) {
    static const char *const fields[] = {"reduction",    "temperature", "label_smoothing",
                                         "ignore_index", "accuracy",    NULL};
    static const char *const reductions[] = {
        [CLD_MEAN_OF_ROWS] = "mean", [CLD_SUM_OF_ROWS] = "sum", [CLD_EACH_ROW] = "none", NULL};
    cldL_check_count(L, 3);
    cld_tensor *logits = cldL_check_tensor(L, 1), *labels = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "cross_entropy", fields);
    cld_cross_entropy_params p = {.temperature = cldL_field_number(L, 3, "temperature", 1),
                                  .label_smoothing = cldL_field_number(L, 3, "label_smoothing", 0),
                                  .ignores = true,
                                  .ignored = cldL_field_integer(L, 3, "ignore_index", -100)};
    const char *reduction = cldL_field_string(L, 3, "reduction", "mean");
    while (reductions[p.reduction] && strcmp(reduction, reductions[p.reduction]) != 0) p.reduction++;
    if (!reductions[p.reduction])
        return luaL_error(L, "cross_entropy: reduction must be 'mean', 'sum' or 'none', got '%s'", reduction);
    bool wanted = cldL_field_boolean(L, 3, "accuracy", false);
    cld_tensor **out = cldL_new_tensor(L), **accuracy = wanted ? cldL_new_tensor(L) : NULL;
    *out = cld_cross_entropy(accuracy, logits, labels, &p);
    cldL_result(L, *out);
    return wanted ? 2 : 1;
}

const luaL_Reg cldL_reduce_ops[] = {
    {"sum", reduce_sum},
    {"mean", reduce_mean},
    {"prod", reduce_prod},
    {"amax", reduce_amax},
    {"amin", reduce_amin},
    {"any", reduce_any},
    {"all", reduce_all},
    {"norm", reduce_norm},
    {"logsumexp", reduce_logsumexp},
    {"cumsum", reduce_cumsum},
    {"eigh", reduce_eigh},
    {"eigvalsh", reduce_eigvalsh},
    {"var", reduce_var},
    {"std", reduce_std},
    {"argmax", reduce_argmax},
    {"argmin", reduce_argmin},
    {"max", reduce_max},
    {"min", reduce_min},
    {"softmax", reduce_softmax},
    {"log_softmax", reduce_log_softmax},
    {"normalize", reduce_normalize},
    {"cross_entropy", reduce_cross_entropy},
    {NULL, NULL},
};
