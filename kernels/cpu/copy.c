/* Copy and fill, between any dtypes, strides and layouts. Two cases have their own loops: no cast (elements are moved
 * as they are), and row-major to or from the blocked layout, which transposes 16 channels against positions. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

/* ---- without a cast ------------------------------------------------------------------------------------ */

#define MOVE(T)                                                                                              \
    {                                                                                                        \
        T *y = (T *)data[0];                                                                                 \
        const T *x = (const T *)data[1];                                                                     \
        if (sy == 1 && sx == 0)                                                                              \
            for (int64_t i = 0; i < n; i++) y[i] = x[0];                                                     \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) y[i * sy] = x[i * sx];                                           \
    }

static void move_body(const void *context, char *const data[], const int64_t strides[], int64_t n) {
    size_t size = *(const size_t *)context;
    int64_t sy = strides[0], sx = strides[1];
    if (sy == 1 && sx == 1) {
        memmove(data[0], data[1], (size_t)n * size);
        return;
    }
    switch (size) {
    case 1: MOVE(uint8_t) break;
    case 2: MOVE(uint16_t) break;
    case 4: MOVE(uint32_t) break;
    default: MOVE(uint64_t) break;
    }
}

/* ---- with a cast --------------------------------------------------------------------------------------- */

typedef struct cast_job {
    cld_compute compute;
    cld_dtype out, x;
} cast_job;

static void cast_body(const void *context, char *const data[], const int64_t strides[], int64_t n) {
    const cast_job *j = context;
    cld_piece buffer;
    const void *x = cld__load(j->compute, &buffer, data[1], j->x, strides[1], n);
    cld__store(j->compute, x, data[0], j->out, strides[0], n);
}

/* The type through which x's values are converted: out's own compute type, except that a float becomes an integer
 * through double. */
static cld_compute through(cld_dtype out, cld_dtype x) {
    cld_compute compute = cld__compute_type(out);
    return compute == CLD_COMPUTE_INT && cld__compute_type(x) != CLD_COMPUTE_INT ? CLD_COMPUTE_DOUBLE
                                                                                 : compute;
}

/* ---- row-major <-> blocked, f32 ------------------------------------------------------------------------ */

/* Positions (h, w) transposed at once: 16 channels x 64 positions are 4 KB. */
#define POSITIONS 64

CLD_SIMD static void to_block(float *restrict block, const float *restrict planes, int64_t hw) {
    for (int64_t first = 0; first < hw; first += POSITIONS) {
        int64_t last = first + POSITIONS < hw ? first + POSITIONS : hw;
        for (int64_t p = first; p < last; p++)
            for (int c = 0; c < 16; c++) block[p * 16 + c] = planes[c * hw + p];
    }
}

CLD_SIMD static void from_block(float *restrict planes, const float *restrict block, int64_t hw) {
    for (int64_t first = 0; first < hw; first += POSITIONS) {
        int64_t last = first + POSITIONS < hw ? first + POSITIONS : hw;
        for (int c = 0; c < 16; c++)
            for (int64_t p = first; p < last; p++) planes[c * hw + p] = block[p * 16 + c];
    }
}

static void reorder(const cld_array *out, const cld_array *x) {
    int64_t blocks = x->shape[0] * x->shape[1] / 16, hw = x->shape[2] * x->shape[3];
    bool into = out->layout == CLD_BLOCKED;
    float *y = out->data;
    const float *from = x->data;
#pragma omp parallel for schedule(static) if (blocks * hw * 16 >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < blocks; i++) {
        if (into)
            to_block(y + i * 16 * hw, from + i * 16 * hw, hw);
        else
            from_block(y + i * 16 * hw, from + i * 16 * hw, hw);
    }
}

/* ---- the table's functions ----------------------------------------------------------------------------- */

cld_status cld__copy(const cld_array *out, const cld_array *x) {
    if (out->dtype != x->dtype) {
        cast_job job = {through(out->dtype, x->dtype), out->dtype, x->dtype};
        cld__walk((const cld_array *[]){out, x}, 2, cast_body, &job);
        return CLD_OK;
    }
    const cld_array *plain = out->layout == CLD_BLOCKED ? x : out;
    if (out->layout != x->layout && x->dtype == CLD_F32 && cld_is_contiguous(plain)) {
        reorder(out, x);
        return CLD_OK;
    }
    size_t size = cld_dtype_size(x->dtype);
    cld__walk((const cld_array *[]){out, x}, 2, move_body, &size);
    return CLD_OK;
}

cld_status cld__fill(const cld_array *out, cld_scalar value) {
    uint64_t element; /* room for any dtype */
    bool exact = value.is_integer && cld__compute_type(out->dtype) == CLD_COMPUTE_INT;
    const void *from = exact ? (const void *)&value.i : &value.d;
    cld__store(exact ? CLD_COMPUTE_INT : CLD_COMPUTE_DOUBLE, from, &element, out->dtype, 1, 1);
    cld_array x = *out;
    x.layout = CLD_STRIDED;
    x.data = &element;
    for (int i = 0; i < x.ndim; i++) x.strides[i] = 0;
    size_t size = cld_dtype_size(out->dtype);
    cld__walk((const cld_array *[]){out, &x}, 2, move_body, &size);
    return CLD_OK;
}
