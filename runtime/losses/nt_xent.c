/* SimCLR's loss, composed of products and the cross entropy of their rows. Forward computes the gradient along with the
 * loss, so that the matrix of all pairs is not kept for backward. */
#include <math.h>

#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"
#include "runtime/tensor/create.h"

static cld_status nt_xent_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *du = cld_node_saved(n, 0);
    if (!du) return cld_error_code();
    din[0] = cld_mul(du, dout[0]);
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op nt_xent_op = {.name = "nt_xent", .backward = nt_xent_backward};

/* u u^T, with -infinity on the diagonal: no row is a candidate for itself. */
static cld_tensor *similarities(cld_tensor *u) {
    CLD_AUTO cld_tensor *transposed = cld_transpose(u, 0, 1);
    CLD_AUTO cld_tensor *all = transposed ? cld_matmul(u, transposed) : NULL;
    if (!all) return NULL;
    int64_t rows = u->a.shape[0], step = rows + 1;
    CLD_AUTO cld_tensor *diagonal = cld_tensor_view(all, 1, &rows, &step, all->a.data);
    if (!diagonal) return NULL;
    CLD_TRY_NULL(cld_tensor_fill(diagonal, cld_real(-INFINITY)));
    return cld_tensor_steal(&all);
}

/* The other view's row: i + n for the first n rows, i - n for the others. */
static cld_tensor *partners(int64_t n, const cld_backend *device) {
    CLD_AUTO cld_tensor *rows =
        cld_tensor_arange(CLD_I64, cld_integer(0), cld_integer(2 * n), cld_integer(1), device);
    return rows ? cld_roll(rows, &n, (int[]){0}, 1) : NULL;
}

/* For similarities s = u u^T with gradient ds: (ds + ds^T) u, one product. The sum is written over s. */
static cld_tensor *gradient_of(cld_tensor *s, cld_tensor *ds, cld_tensor *u) {
    CLD_AUTO cld_tensor *transposed = cld_transpose(ds, 0, 1);
    if (!transposed) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(u), math, binary, CLD_ADD, &s->a, &ds->a, &transposed->a));
    return cld_matmul(s, u);
}

/* For unit rows u (2 n, dim): the loss, and du if it is wanted. */
static cld_tensor *of_units(cld_tensor **du, cld_tensor *u, double temperature) {
    const cld_cross_entropy_params p = {.reduction = CLD_MEAN_OF_ROWS, .temperature = temperature};
    const cld_backend *device = cld_device(u);
    CLD_AUTO cld_tensor *s = similarities(u);
    CLD_AUTO cld_tensor *labels = s ? partners(u->a.shape[0] / 2, device) : NULL;
    CLD_AUTO cld_tensor *loss = labels ? cld_tensor_new(u->a.dtype, 0, NULL, device) : NULL;
    CLD_AUTO cld_tensor *ds = loss && du ? cld_tensor_new_like(s) : NULL;
    if (!loss || (du && !ds)) return NULL;
    CLD_TRY_NULL(
        cld_kernel(device, math, cross_entropy, &loss->a, NULL, cld_array_of(ds), &s->a, &labels->a, &p));
    if (du && !(*du = gradient_of(s, ds, u))) return NULL;
    return cld_tensor_steal(&loss);
}

cld_tensor *cld_nt_xent(cld_tensor *z1, cld_tensor *z2, double temperature) {
    CLD_TRY_NULL(cld__check_alike("nt_xent", "z1", z1, "z2", z2));
    CLD_TRY_NULL(cld__check_temperature("nt_xent", temperature));
    if (!cld_same_shape(&z1->a, &z2->a))
        return cld_fail_null(CLD_INVALID, "nt_xent: z1 is %s, z2 %s; expected the same shape",
                             cld_describe(&z1->a), cld_describe(&z2->a));
    if (z1->a.shape[0] < 2)
        return cld_fail_null(CLD_INVALID,
                             "nt_xent: z1 is %s: one image has no negatives; expected at least 2 rows",
                             cld_describe(&z1->a));
    CLD_AUTO cld_tensor *rows = cld_join_rows((cld_tensor *[]){z1, z2}, 2);
    CLD_AUTO cld_tensor *units = rows ? cld_normalize(rows, 1) : NULL;
    CLD_AUTO cld_tensor *u = units ? cld_tensor_detach(units) : NULL, *du = NULL;
    CLD_AUTO cld_tensor *loss = u ? of_units(cld_needs_grad(&units, 1) ? &du : NULL, u, temperature) : NULL;
    if (!loss) return NULL;
    cld_node *n = cld_record(&nt_xent_op, &loss, 1, &units, 1);
    if (n) cld_node_save(n, 0, du);
    return cld_tensor_steal(&loss);
}
