/* Normalized cuts, composed of ops: the graph of a block's rows, its eigenvectors, k-means on these, and the means of
 * the features by the labels. The equations are in losses.h.
 *
 * L = D^-1/2 (D - W) D^-1/2 is I - R W R with R = D^-1/2, so the eigenvalues of L are those of -R W R plus 1, with the
 * same vectors. R is 0 where D is 0: a row that is similar to no other is then separate, with eigenvalue 1. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

/* `count` blocks of `rows` rows each, starting at row `begin`. */
typedef struct run {
    int64_t begin, count, rows;
} run;

/* Sets the diagonal of each of w's matrices, which are dense, to 0. */
static cld_status clear_diagonals(cld_tensor *w) {
    int64_t n = w->a.shape[1], shape[2] = {w->a.shape[0], n}, strides[2] = {n * n, n + 1};
    CLD_AUTO cld_tensor *diagonals = cld_tensor_view(w, 2, shape, strides, w->a.data);
    return diagonals ? cld_fill_("normalized_cuts", diagonals, cld_integer(0)) : cld_error_code();
}

/* W, (count, rows, rows) */
static cld_tensor *similarities(cld_tensor *x, const run *r) {
    CLD_AUTO cld_tensor *here = cld_narrow(x, 0, r->begin, r->count * r->rows);
    CLD_AUTO cld_tensor *each =
        here ? cld_reshape(here, 3, (int64_t[]){r->count, r->rows, x->a.shape[1]}) : NULL;
    CLD_AUTO cld_tensor *unit = each ? cld_normalize(each, 2) : NULL;
    CLD_AUTO cld_tensor *turned = unit ? cld_transpose(unit, 1, 2) : NULL;
    CLD_AUTO cld_tensor *cosines = turned ? cld_matmul(unit, turned) : NULL;
    CLD_AUTO cld_tensor *w = cosines ? cld_unary_op(CLD_ABS, cosines, 0, 0) : NULL;
    if (!w || clear_diagonals(w) != CLD_OK) return NULL;
    return cld_tensor_steal(&w);
}

/* D^-1/2 as columns (count, rows, 1), 0 where D is 0 */
static cld_tensor *roots_of_degrees(cld_tensor *w) {
    CLD_AUTO cld_tensor *degree = cld_sum(w, (int[]){2}, 1, true);
    CLD_AUTO cld_tensor *is_linked = degree ? cld_unary_op(CLD_GT_SCALAR, degree, 0, 0) : NULL;
    CLD_AUTO cld_tensor *root = is_linked ? cld_unary_op(CLD_RSQRT, degree, 0, 0) : NULL;
    CLD_AUTO cld_tensor *zero = root ? cld_tensor_full(w->a.dtype, 0, NULL, cld_device(w), 0) : NULL;
    return zero ? cld_where(is_linked, root, zero) : NULL;
}

/* The eigenvectors times D^-1/2, (count * rows, columns), padded with zeros if the blocks have fewer; *eigenvalues
 * (count, at most columns). */
static cld_tensor *embed(cld_tensor **eigenvalues, cld_tensor *x, const run *r, int64_t columns) {
    int64_t k = columns < r->rows ? columns : r->rows;
    CLD_AUTO cld_tensor *w = similarities(x, r);
    CLD_AUTO cld_tensor *root = w ? roots_of_degrees(w) : NULL;
    CLD_AUTO cld_tensor *row = root ? cld_transpose(root, 1, 2) : NULL;
    CLD_AUTO cld_tensor *half = row ? cld_mul(w, root) : NULL;
    CLD_AUTO cld_tensor *both = half ? cld_mul(half, row) : NULL;
    CLD_AUTO cld_tensor *a = both ? cld_mul_scalar(both, -1) : NULL;
    CLD_AUTO cld_tensor *vectors = NULL, *values = a ? cld_eigh(&vectors, a, k) : NULL;
    CLD_AUTO cld_tensor *least = values ? cld_narrow(values, 1, 0, k) : NULL;
    CLD_AUTO cld_tensor *scaled = least ? cld_mul(vectors, root) : NULL;
    CLD_AUTO cld_tensor *out = scaled ? cld_reshape(scaled, 2, (int64_t[]){r->count * r->rows, k}) : NULL;
    if (!out) return NULL;
    if (k < columns) {
        int64_t shape[2] = {r->count * r->rows, columns - k};
        CLD_AUTO cld_tensor *zeros = cld_tensor_full(x->a.dtype, 2, shape, cld_device(x), 0);
        cld_tensor *wide = zeros ? cld_cat((cld_tensor *[]){out, zeros}, 2, 1) : NULL;
        cld_tensor_free(out);
        out = wide;
    }
    *eigenvalues = out ? cld_add_scalar(least, 1) : NULL;
    return *eigenvalues ? cld_tensor_steal(&out) : NULL;
}

/* For all rows of x, off the tape. *eigenvalues: of the last blocks. */
static cld_tensor *embed_blocks(cld_tensor **eigenvalues, cld_tensor *x, int64_t eigenvectors, int blocks) {
    int64_t rows = x->a.shape[0] / blocks, larger = x->a.shape[0] % blocks, most = rows + (larger > 0);
    int64_t columns = eigenvectors < most ? eigenvectors : most;
    const run first = {0, larger, rows + 1}, rest = {larger * (rows + 1), blocks - larger, rows};
    if (larger == 0) return embed(eigenvalues, x, &rest, columns);
    CLD_AUTO cld_tensor *values = NULL, *a = embed(&values, x, &first, columns);
    CLD_AUTO cld_tensor *b = a ? embed(eigenvalues, x, &rest, columns) : NULL;
    return b ? cld_cat((cld_tensor *[]){a, b}, 2, 0) : NULL;
}

/* Means of x's rows per group, on the tape. */
static cld_tensor *means(cld_tensor *x, const cld_groups *groups) {
    int64_t shape[2] = {groups->sizes->a.shape[0], x->a.shape[1]};
    CLD_AUTO cld_tensor *zeros = cld_tensor_full(x->a.dtype, 2, shape, cld_device(x), 0);
    CLD_AUTO cld_tensor *sums = zeros ? cld_index_add(zeros, 0, groups->own, x) : NULL;
    return sums ? cld_div(sums, groups->sizes) : NULL;
}

cld_tensor *cld_normalized_cuts(cld_tensor **labels, cld_tensor **empty, cld_tensor **eigenvalues,
                                cld_tensor *x, int64_t eigenvectors, int64_t k, int64_t iterations,
                                int blocks) {
    CLD_TRY_NULL(cld__check_rows("normalized_cuts", "x", x));
    CLD_TRY_NULL(cld__check_kmeans("normalized_cuts", x, k, iterations));
    CLD_TRY_NULL(cld__check_eigenvectors("normalized_cuts", eigenvectors));
    CLD_AUTO cld_tensor *constant = cld_tensor_detach(x), *values = NULL;
    CLD_AUTO cld_tensor *embedded =
        constant ? embed_blocks(&values, constant, eigenvectors > 0 ? eigenvectors : k, blocks) : NULL;
    CLD_GROUPS groups = {0};
    CLD_AUTO cld_tensor *unused =
        embedded ? cld__find_groups(&groups, "normalized_cuts", embedded, k, iterations, blocks) : NULL;
    CLD_AUTO cld_tensor *centroids = unused ? means(x, &groups) : NULL;
    CLD_AUTO cld_tensor *least = centroids && eigenvalues ? cld_flatten(values, 0, 1) : NULL;
    if (!centroids || (eigenvalues && !least)) return NULL;
    *labels = cld_tensor_steal(&groups.labels);
    *empty = cld_tensor_steal(&groups.empty);
    if (eigenvalues) *eigenvalues = cld_tensor_steal(&least);
    return cld_tensor_steal(&centroids);
}
