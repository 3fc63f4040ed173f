#include "kernels/cuda/walk.h"

#include <stdlib.h>

cld_array cld_with_strides(const cld_array *a) {
    cld_array s = *a;
    if (a->layout == CLD_STRIDED) return s;
    int64_t c = a->shape[1], w = a->shape[3];
    s.layout = CLD_STRIDED;
    s.strides[0] = c * a->shape[2] * w;
    s.strides[1] = 1;
    s.strides[2] = w * c;
    s.strides[3] = c;
    return s;
}

cld_array cld_dense_like(const cld_array *a, cld_dtype dtype, void *data) {
    cld_array dense = *a;
    int64_t inside = 1;
    dense.data = data;
    dense.dtype = dtype;
    dense.layout = CLD_STRIDED;
    for (int i = a->ndim - 1; i >= 0; inside *= a->shape[i--]) dense.strides[i] = inside;
    return dense;
}

/* Does dimension p go outside q? Larger strides in the output, then in the inputs, go outside. */
static bool outside(const cld_array *a, int count, int p, int q) {
    for (int k = 0; k < count; k++) {
        int64_t sp = llabs(a[k].strides[p]), sq = llabs(a[k].strides[q]);
        if (sp != sq) return sp > sq;
    }
    return p < q;
}

static int sort_dims(int order[], const cld_array *a, int count) {
    int dims = 0;
    for (int d = 0; d < a[0].ndim; d++) { /* insertion sort */
        if (a[0].shape[d] == 1) continue;
        int at = dims++;
        while (at > 0 && outside(a, count, d, order[at - 1])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = d;
    }
    return dims;
}

cld_walk cld_walk_of(const cld_array *const arrays[], int count) {
    cld_array a[CLD_WALK_ARRAYS] = {0};
    cld_walk w = {.arrays = count, .numel = cld_numel(arrays[0])};
    int order[CLD_MAX_DIMS];
    for (int k = 0; k < count; k++) {
        a[k] = cld_with_strides(arrays[k]);
        w.data[k] = a[k].data;
        w.size[k] = cld_dtype_size(a[k].dtype);
    }
    int dims = sort_dims(order, a, count);
    for (int i = 0; i < dims; i++) {
        int d = order[i], last = w.ndim - 1;
        bool joins = last >= 0;
        for (int k = 0; k < count && joins; k++)
            joins = w.strides[k][last] == a[k].strides[d] * a[0].shape[d];
        if (joins)
            w.shape[last] *= a[0].shape[d];
        else
            w.shape[last = w.ndim++] = a[0].shape[d];
        for (int k = 0; k < count; k++) w.strides[k][last] = a[k].strides[d];
    }
    if (w.ndim == 0) {
        w.shape[w.ndim++] = 1;
        for (int k = 0; k < count; k++) w.strides[k][0] = 1;
    }
    return w;
}

void cld_walk_halve(const cld_walk *w, cld_walk halves[2]) {
    int longest = 0;
    for (int d = 1; d < w->ndim; d++)
        if (w->shape[d] > w->shape[longest]) longest = d;
    int64_t half = w->shape[longest] / 2;
    if (half > 64) half -= half % 64; /* keeps the second half's alignment */
    halves[0] = halves[1] = *w;
    halves[0].shape[longest] = half;
    halves[1].shape[longest] -= half;
    for (int k = 0; k < w->arrays; k++)
        halves[1].data[k] += half * w->strides[k][longest] * (int64_t)w->size[k];
    for (int i = 0; i < 2; i++) halves[i].numel = w->numel / w->shape[longest] * halves[i].shape[longest];
}

bool cld_walk_fits(const cld_walk *w, int width) {
    int inner = w->ndim - 1;
    if (w->strides[0][inner] != 1 || (w->ndim > 1 && w->shape[inner] % width != 0)) return false;
    for (int k = 0; k < w->arrays; k++) {
        if (w->strides[k][inner] == 0) continue;
        if (w->strides[k][inner] != 1 || (uintptr_t)w->data[k] % (w->size[k] * (size_t)width) != 0)
            return false;
        for (int d = 0; d < inner; d++)
            if (w->strides[k][d] % width != 0) return false;
    }
    return true;
}
