/* The updates of the memory after a step: the bank's rows, and the queue's ring buffer. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/loss.h"

enum { WARPS = 4, COPY_THREADS = 256 };

static __device__ inline bool holds(const uint8_t *condition) { return !condition || *condition != 0; }

/* ---- the bank ----------------------------------------------------------------------------------------------------- */

/* The first i in from .. to - 1 with this index; else `to`. By all lanes of a warp. */
static __device__ inline int64_t next_with(const int64_t *index, int64_t wanted, int64_t from, int64_t to) {
    int lane = threadIdx.x % 32;
    for (; from < to; from += 32) {
        unsigned hits = __ballot_sync(WHOLE_WARP, from + lane < to && index[from + lane] == wanted);
        if (hits) return from + __ffs((int)hits) - 1;
    }
    return to;
}

/* row = normalize(momentum row + (1 - momentum) f), in double as on the CPU, by one warp; each lane has its own
 * columns. */
template <typename T>
static __device__ inline void renew_row(T *row, const T *f, int64_t dim, double momentum) {
    double squares = 0;
    for (int64_t d = threadIdx.x % 32; d < dim; d += 32) {
        row[d] = (T)(momentum * row[d] + (1 - momentum) * f[d]);
        squares += (double)row[d] * row[d];
    }
    double norm = sqrt(warp_sum(squares));
    if (!(norm > 0)) return;
    for (int64_t d = threadIdx.x % 32; d < dim; d += 32) row[d] = (T)(row[d] / norm);
}

/* One warp per index. If an index occurs more than once, the warp of its first occurrence applies them all, one after
 * the other, and the other warps do nothing. */
template <typename T>
static __global__ void __launch_bounds__(32 * WARPS)
    renew_bank(T *bank, int64_t size, const int64_t *index, const T *f, int64_t count, int64_t dim,
               double momentum, const uint8_t *condition, cld_fault *fault) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (i >= count || !holds(condition)) return;
    int64_t row = index[i];
    if (row < 0 || row >= size) {
        if (threadIdx.x % 32 == 0) report(fault, CLD_FAULT_BANK, row, size);
        return;
    }
    if (next_with(index, row, 0, i) < i) return;
    for (; i < count; i = next_with(index, row, i + 1, count))
        renew_row(bank + row * dim, f + i * dim, dim, momentum);
}

cld_status cld_cuda_bank_update(const cld_array *bank, const cld_array *index, const cld_array *f,
                                double momentum, const cld_array *condition) {
    int64_t count = f->shape[0], dim = f->shape[1];
    const uint8_t *made = condition ? (const uint8_t *)condition->data : NULL;
    if (count == 0) return CLD_OK;
    CLD_BY_WIDE(f->dtype, T,
                return CLD_LAUNCH((renew_bank<T>), (int)((count + WARPS - 1) / WARPS), 32 * WARPS, 0,
                                  (T *)bank->data, bank->shape[0], (const int64_t *)index->data,
                                  (const T *)f->data, count, dim, momentum, made, cld_cuda_fault()));
    return CLD_OK;
}

/* ---- the queue ---------------------------------------------------------------------------------------------------- */

/* n units of the keys from `first` on, `row` units per row; earlier keys are left out, since these overwrite them. */
template <typename unit>
static __global__ void __launch_bounds__(COPY_THREADS)
    fill_ring(unit *queue, int64_t size, const unit *keys, int64_t first, int64_t n, int64_t row,
              const int64_t *pointer, const uint8_t *condition) {
    int64_t e = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (e >= n || !holds(condition)) return;
    int64_t i = first + e / row, to = (*pointer % size + size + i) % size;
    queue[to * row + e % row] = keys[i * row + e % row];
}

static __global__ void move_pointer(int64_t *pointer, int64_t count, int64_t size, const uint8_t *condition) {
    if (holds(condition)) *pointer = (*pointer % size + size + count) % size;
}

template <typename unit>
static cld_status fill_ring_by(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                               size_t bytes, const uint8_t *condition) {
    int64_t size = queue->shape[0], count = keys->shape[0], row = (int64_t)(bytes / sizeof(unit));
    int64_t first = count > size ? count - size : 0, n = (count - first) * row;
    return CLD_LAUNCH((fill_ring<unit>), (int)((n + COPY_THREADS - 1) / COPY_THREADS), COPY_THREADS, 0,
                      (unit *)queue->data, size, (const unit *)keys->data, first, n, row,
                      (const int64_t *)pointer->data, condition);
}

cld_status cld_cuda_enqueue(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                            const cld_array *condition) {
    size_t bytes = (size_t)queue->shape[1] * cld_dtype_size(queue->dtype);
    const uint8_t *made = condition ? (const uint8_t *)condition->data : NULL;
    if (keys->shape[0] == 0) return CLD_OK;
    if (bytes == 0)
        ;
    else if (bytes % 16 == 0 && is_wide(queue->data) && is_wide(keys->data))
        CLD_TRY(fill_ring_by<uint4>(queue, pointer, keys, bytes, made));
    else
        CLD_TRY(fill_ring_by<uint32_t>(queue, pointer, keys, bytes, made));
    return CLD_LAUNCH(move_pointer, 1, 1, 0, (int64_t *)pointer->data, keys->shape[0], queue->shape[0], made);
}
