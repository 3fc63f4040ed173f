/* Indexing. All indices are checked before anything is written, so a bad one leaves the output untouched. If several
 * indices may hit the same output, they are applied in the order of the index, whatever the number of threads. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <stdio.h>

/* ---- checking ------------------------------------------------------------------------------------------ */

/* Names the first index that is not in 0..extent - 1, and its position (1-based, as Lua counts). */
static cld_status check_indices(const cld_array *index, int64_t extent) {
    const int64_t *data = index->data;
    int64_t numel = cld_numel(index), bad = numel;
    bool dense = cld_is_contiguous(index);
#pragma omp parallel for schedule(static) reduction(min : bad) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel; i++) {
        int64_t value = data[dense ? i : cld__line_offset(index, -1, i)];
        if ((value < 0 || value >= extent) && i < bad) bad = i;
    }
    if (bad == numel) return CLD_OK;
    char position[128];
    int used = 0;
    int64_t inside = numel, rest = bad;
    for (int d = 0; d < index->ndim && used < (int)sizeof position; d++) {
        inside /= index->shape[d];
        used += snprintf(position + used, sizeof position - (size_t)used, d ? ", %lld" : "%lld",
                         (long long)(rest / inside + 1));
        rest %= inside;
    }
    return cld_fail(CLD_INVALID, "index [%s] is %lld; expected 0 to %lld", index->ndim ? position : "",
                    (long long)data[cld__line_offset(index, -1, bad)], (long long)extent - 1);
}

/* ---- gather, scatter_add: an index for every element --------------------------------------------------- */

/* Offsets of line i (over all dimensions of index except dim) in three arrays, in elements. */
static void line_offsets(const cld_array *const arrays[3], int dim, int64_t i, int64_t offsets[3]) {
    const cld_array *index = arrays[0];
    for (int k = 0; k < 3; k++) offsets[k] = 0;
    for (int d = index->ndim - 1; d >= 0; d--) {
        if (d == dim) continue;
        int64_t at = i % index->shape[d];
        i /= index->shape[d];
        for (int k = 0; k < 3; k++) offsets[k] += at * arrays[k]->strides[d];
    }
}

#define GATHER(T)                                                                                            \
    for (int64_t j = 0; j < length; j++) ((T *)to)[j * st] = ((const T *)from)[index[j * si] * sf]

static void gather_line(size_t size, char *to, int64_t st, const char *from, int64_t sf, const int64_t *index,
                        int64_t si, int64_t length) {
    switch (size) {
    case 1: GATHER(uint8_t); break;
    case 2: GATHER(uint16_t); break;
    case 4: GATHER(uint32_t); break;
    default: GATHER(uint64_t); break;
    }
}

#define SCATTER(T) SCATTER_AS(T, T, , )
#define SCATTER_AS(T, W, LOAD, STORE)                                                                        \
    for (int64_t j = 0; j < length; j++) {                                                                   \
        T *y = (T *)to + index[j * si] * st;                                                                 \
        *y = STORE((W)(LOAD(*y) + LOAD(((const T *)from)[j * sf])));                                         \
    }                                                                                                        \
    break

static void scatter_add_line(cld_dtype dtype, char *to, int64_t st, const char *from, int64_t sf,
                             const int64_t *index, int64_t si, int64_t length) {
    switch (dtype) {
    case CLD_F32: SCATTER(float);
    case CLD_F64: SCATTER(double);
    case CLD_BF16: SCATTER_AS(uint16_t, float, cld_bf16_to_float, cld_bf16_from_float);
    case CLD_F16: SCATTER(_Float16);
    case CLD_I64: SCATTER(uint64_t);
    case CLD_I32: SCATTER(uint32_t);
    default: SCATTER(uint8_t);
    }
}

cld_status cld__gather(const cld_array *out, const cld_array *x, int dim, const cld_array *index) {
    CLD_TRY(check_indices(index, x->shape[dim]));
    int64_t numel = cld_numel(index), length = index->shape[dim], size = (int64_t)cld_dtype_size(x->dtype);
    if (numel == 0) return CLD_OK;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel / length; i++) {
        int64_t at[3];
        line_offsets((const cld_array *[]){index, out, x}, dim, i, at);
        gather_line((size_t)size, (char *)out->data + at[1] * size, out->strides[dim],
                    (const char *)x->data + at[2] * size, x->strides[dim],
                    (const int64_t *)index->data + at[0], index->strides[dim], length);
    }
    return CLD_OK;
}

cld_status cld__scatter_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    CLD_TRY(check_indices(index, out->shape[dim]));
    int64_t numel = cld_numel(index), length = index->shape[dim], size = (int64_t)cld_dtype_size(x->dtype);
    if (numel == 0) return CLD_OK;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel / length; i++) { /* lines are disjoint in out */
        int64_t at[3];
        line_offsets((const cld_array *[]){index, out, x}, dim, i, at);
        scatter_add_line(x->dtype, (char *)out->data + at[1] * size, out->strides[dim],
                         (const char *)x->data + at[2] * size, x->strides[dim],
                         (const int64_t *)index->data + at[0], index->strides[dim], length);
    }
    return CLD_OK;
}

/* ---- index_select, index_add, index_copy: an index for every slice ------------------------------------- */

/* Slice i of a along dim, as an array with extent 1 in that dimension. */
static cld_array slice(const cld_array *a, int dim, int64_t i) {
    cld_array s = *a;
    s.data = (char *)a->data + i * a->strides[dim] * (int64_t)cld_dtype_size(a->dtype);
    s.shape[dim] = 1;
    return s;
}

static int64_t index_at(const cld_array *index, int64_t i) {
    return ((const int64_t *)index->data)[index->ndim ? i * index->strides[0] : 0];
}

cld_status cld__index_select(const cld_array *out, const cld_array *x, int dim, const cld_array *index) {
    CLD_TRY(check_indices(index, x->shape[dim]));
#pragma omp parallel for schedule(static) if (cld_numel(out) >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < out->shape[dim]; i++) {
        cld_array to = slice(out, dim, i), from = slice(x, dim, index_at(index, i));
        cld__copy(&to, &from);
    }
    return CLD_OK;
}

cld_status cld__index_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    CLD_TRY(check_indices(index, out->shape[dim]));
    for (int64_t i = 0; i < x->shape[dim]; i++) {
        cld_array to = slice(out, dim, index_at(index, i)), from = slice(x, dim, i);
        CLD_TRY(cld__binary(CLD_ADD, &to, &to, &from));
    }
    return CLD_OK;
}

cld_status cld__index_copy(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    CLD_TRY(check_indices(index, out->shape[dim]));
    for (int64_t i = 0; i < x->shape[dim]; i++) {
        cld_array to = slice(out, dim, index_at(index, i)), from = slice(x, dim, i);
        CLD_TRY(cld__copy(&to, &from));
    }
    return CLD_OK;
}
