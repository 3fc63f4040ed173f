/* Dropout. It draws from the generator one f32 per element of x, whatever x's dtype. If the batch is split over ranks,
 * numbers are drawn for all rows of each view, and each rank uses those of its rows: the same numbers as in one
 * process, if x has all of the rank's images. If x has only some of them (a group of blocks), the numbers differ from
 * those of one process. Either way the generators of all ranks advance by the same amount. */
#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"

static cld_tensor *noise_like(const cld_tensor *x) {
    CLD_AUTO cld_tensor *noise = cld_tensor_new(CLD_F32, x->a.ndim, x->a.shape, cld_device(x));
    if (noise) CLD_TRY_NULL(cld_uniform_(noise, 0, 1));
    return cld_tensor_steal(&noise);
}

static cld_tensor *noise_for(const cld_tensor *x, const cld_dropout_rows *of) {
    cld_batch_share batch = cld_batch_at_hand();
    int64_t rows = x->a.ndim ? x->a.shape[0] : 0, views = of->views;
    int64_t images = of->images > 0 ? of->images : batch.rows;
    if (!batch.split || rows == 0 || rows % images != 0 || of->done + images > batch.rows)
        return noise_like(x);
    if (rows % (images * views) != 0) views = 1;
    int64_t image = cld_numel(&x->a) / (views * images); /* numbers per image of each view */
    int64_t shape[] = {views, batch.total * image};
    CLD_AUTO cld_tensor *noise = cld_tensor_new(CLD_F32, 2, shape, cld_device(x));
    if (!noise) return NULL;
    CLD_TRY_NULL(cld_uniform_(noise, 0, 1));
    CLD_AUTO cld_tensor *here = cld_narrow(noise, 1, (batch.begin + of->done) * image, images * image);
    return here ? cld_reshape(here, x->a.ndim, x->a.shape) : NULL;
}

cld_tensor *cld_dropout(cld_tensor *x, double p, const cld_dropout_rows *of) {
    CLD_TRY_NULL(cld_check_float("dropout", x));
    if (!(p >= 0 && p <= 1))
        return cld_fail_null(CLD_INVALID, "dropout: p must be a number from 0 to 1, got %g", p);
    if (p == 0) return cld_tensor_retain(x);
    if (p == 1) return cld_mul_scalar(x, 0);
    CLD_AUTO cld_tensor *noise = noise_for(x, of);
    CLD_AUTO cld_tensor *kept = !noise ? NULL : cld_unary_op(CLD_GE_SCALAR, noise, p, 0);
    CLD_AUTO cld_tensor *mask = kept ? cld_cast(kept, x->a.dtype) : NULL;
    CLD_AUTO cld_tensor *scale = mask ? cld_mul_scalar(mask, 1 / (1 - p)) : NULL;
    return scale ? cld_mul(x, scale) : NULL;
}
