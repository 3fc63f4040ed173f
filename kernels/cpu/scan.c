/* Results for an element that depend on all elements before it, in its line or in the whole tensor: cumulative sums,
 * and the positions of nonzero elements. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

/* ---- cumsum -------------------------------------------------------------------------------------------- */

/* n running sums that continue from *sum; floats are summed in double. */
static void run_double(double *sum, double *out, const double *in, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = *sum += in[i];
}

static void run_int(int64_t *sum, int64_t *out, const int64_t *in, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = *sum = (int64_t)((uint64_t)*sum + (uint64_t)in[i]);
}

static void cumsum_line(const cld_array *out, const cld_array *x, char *to, const char *from, int dim) {
    bool integer = cld__compute_type(x->dtype) == CLD_COMPUTE_INT;
    cld_compute c = integer ? CLD_COMPUTE_INT : CLD_COMPUTE_DOUBLE;
    int64_t length = x->shape[dim], int_sum = 0;
    double sum = 0;
    cld_piece in_buffer, out_buffer;
    for (int64_t first = 0; first < length; first += CLD_PIECE) {
        int64_t n = length - first < CLD_PIECE ? length - first : CLD_PIECE;
        const void *in = cld__load(c, &in_buffer, from, x->dtype, x->strides[dim], n);
        if (integer)
            run_int(&int_sum, out_buffer.i, in, n);
        else
            run_double(&sum, out_buffer.d, in, n);
        cld__store(c, &out_buffer, to, out->dtype, out->strides[dim], n);
        from += n * x->strides[dim] * (int64_t)cld_dtype_size(x->dtype);
        to += n * out->strides[dim] * (int64_t)cld_dtype_size(out->dtype);
    }
}

/* The same lines, read from the other end. */
static cld_array reversed(const cld_array *a, int dim) {
    cld_array r = *a;
    r.data = (char *)a->data + (a->shape[dim] - 1) * a->strides[dim] * (int64_t)cld_dtype_size(a->dtype);
    r.strides[dim] = -a->strides[dim];
    return r;
}

cld_status cld__cumsum(const cld_array *out, const cld_array *x, int dim, bool reverse) {
    int64_t numel = cld_numel(x);
    if (numel == 0) return CLD_OK;
    cld_array y = reverse ? reversed(out, dim) : *out, v = reverse ? reversed(x, dim) : *x;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel / x->shape[dim]; i++) {
        char *to = (char *)y.data + cld__line_offset(&y, dim, i) * (int64_t)cld_dtype_size(y.dtype);
        const char *from = (char *)v.data + cld__line_offset(&v, dim, i) * (int64_t)cld_dtype_size(v.dtype);
        cumsum_line(&y, &v, to, from, dim);
    }
    return CLD_OK;
}

/* ---- nonzero ------------------------------------------------------------------------------------------- */

cld_status cld__nonzero(const cld_array *out, const cld_array *x) {
    int64_t *row = out->data, numel = cld_numel(x);
    int columns = x->ndim, last = columns > 0 ? columns - 1 : 0;
    cld_array a = *x;
    if (columns == 0) { /* a single element, whose position has no coordinates */
        a.ndim = 1;
        a.shape[0] = a.strides[0] = 1;
    }
    int64_t length = a.shape[last], stride = a.strides[last], size = (int64_t)cld_dtype_size(a.dtype);
    cld_piece buffer;
    for (int64_t line = 0; numel && line < numel / length; line++) {
        const char *data = (const char *)a.data + cld__line_offset(&a, last, line) * size;
        for (int64_t first = 0; first < length; first += CLD_PIECE) {
            int64_t n = length - first < CLD_PIECE ? length - first : CLD_PIECE, rest;
            const double *v = cld__load(CLD_COMPUTE_DOUBLE, &buffer, data, a.dtype, stride, n);
            data += n * stride * size;
            for (int64_t i = 0; i < n; i++) {
                if (v[i] == 0) continue;
                if (columns) row[last] = first + i;
                rest = line;
                for (int d = last - 1; d >= 0; d--) {
                    row[d] = rest % a.shape[d];
                    rest /= a.shape[d];
                }
                row += columns;
            }
        }
    }
    return CLD_OK;
}
