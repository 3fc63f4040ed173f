/* The common norm of the gradients, in one launch: each block sums the squares of its elements, and the last block to
 * finish adds up these sums in their order, so that the result does not depend on which block that is. */
#include "kernels/cuda/optim.cuh"

template <int CAPACITY> struct gradient_table {
    int count;
    int first[CAPACITY + 1]; /* the block at which tensor i starts; last: the number of blocks */
    int64_t n[CAPACITY];     /* elements */
    const void *data[CAPACITY];
};

/* The sum that a launch adds to. There are several launches only if the gradients have several dtypes or are too many
 * for one. */
struct norm_sum {
    double *partial; /* for each block of all launches */
    int offset;      /* of this launch's first block */
    int total;       /* number of blocks of all launches */
    void *norm;
    bool is_double;
    double *factor;
    double max_norm;
    const uint8_t *condition;
    const float *scale;
};

/* Number of blocks that have written their sums; zero between two norms, which the device's queue runs one at a
 * time. */
static __device__ unsigned finished;

__device__ static void write_norm(const norm_sum &s, double norm) {
    double wanted = isinf(s.max_norm) ? 1 : s.max_norm / (norm + 1e-6);
    if (s.is_double)
        *(double *)s.norm = norm;
    else
        *(float *)s.norm = (float)norm;
    *s.factor = wanted > 1 ? 1 : wanted; /* NaN is kept */
}

/* Run by the last block. */
__device__ static void add_up(const norm_sum &s, double *shared) {
    const volatile double *partial = s.partial; /* written by other blocks: not from this one's cache */
    double sum = 0;
    for (int i = (int)threadIdx.x; i < s.total; i += THREADS) sum += partial[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x != 0) return;
    finished = 0;
    double norm = sqrt(sum);
    if (s.scale) norm /= (double)*s.scale;
    write_norm(s, s.condition && *s.condition == 0 ? (double)NAN : norm);
}

template <typename T> __device__ static double square_of(T x) { return (double)load(x) * (double)load(x); }

template <typename T, int CAPACITY>
__global__ void __launch_bounds__(THREADS)
    sum_squares(const gradient_table<CAPACITY> table, const norm_sum s) {
    const int WIDTH = wide<T>::COUNT;
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    CLD_SHARED(bool, last, [1]);
    int i = tensor_of(table.first, table.count, (int)blockIdx.x);
    int64_t start = (int64_t)((int)blockIdx.x - table.first[i]) * chunk<T>::SIZE;
    int64_t rest = table.n[i] - start;
    int n = rest < chunk<T>::SIZE ? (int)rest : chunk<T>::SIZE;
    const T *x = (const T *)table.data[i] + start;
    int whole = is_wide(x) ? n / WIDTH * WIDTH : 0;
    double sum = 0;
    for (int e = (int)threadIdx.x * WIDTH; e < whole; e += THREADS * WIDTH) {
        wide<T> v = *(const wide<T> *)(x + e);
#pragma unroll
        for (int l = 0; l < WIDTH; l++) sum += square_of(v.v[l]);
    }
    for (int e = whole + (int)threadIdx.x; e < n; e += THREADS) sum += square_of(x[e]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) {
        s.partial[s.offset + (int)blockIdx.x] = sum;
        __threadfence();
        last[0] = atomicAdd(&finished, 1u) == (unsigned)s.total - 1;
    }
    __syncthreads();
    if (!last[0]) return;
    __threadfence();
    add_up(s, shared);
}

/* The norm if there is no gradient at all. */
static __global__ void no_norm(const norm_sum s) {
    write_norm(s, s.condition && *s.condition == 0 ? (double)NAN : 0);
}

template <typename T, int CAPACITY>
static cld_status sum_some(int *from, int count, const cld_array *grads, cld_dtype dtype, norm_sum *s) {
    gradient_table<CAPACITY> table;
    static_assert(sizeof table + sizeof *s <= MOST_PARAMETERS, "a launch takes no more");
    int64_t blocks = 0;
    table.count = 0;
    for (; *from < count && table.count < CAPACITY; ++*from) {
        const cld_array *a = &grads[*from];
        int64_t n = cld_numel(a);
        if (a->dtype != dtype || n == 0) continue;
        int i = table.count++;
        table.first[i] = (int)blocks;
        table.n[i] = n;
        table.data[i] = a->data;
        blocks += chunk<T>::blocks(n);
    }
    if (table.count == 0) return CLD_OK;
    table.first[table.count] = (int)blocks;
    CLD_TRY(CLD_LAUNCH((sum_squares<T, CAPACITY>), (int)blocks, THREADS, 0, table, *s));
    s->offset += (int)blocks;
    return CLD_OK;
}

template <typename T>
static cld_status sum_dtype(int count, const cld_array *grads, cld_dtype dtype, norm_sum *s) {
    for (int from = 0; from < count;) {
        if (count - from <= FEW)
            CLD_TRY((sum_some<T, FEW>(&from, count, grads, dtype, s)));
        else
            CLD_TRY((sum_some<T, 1500>(&from, count, grads, dtype, s)));
    }
    return CLD_OK;
}

static int64_t blocks_of(const cld_array *grad) {
    int64_t n = cld_numel(grad);
    if (grad->dtype == CLD_F64) return chunk<double>::blocks(n);
    return grad->dtype == CLD_F32 ? chunk<float>::blocks(n) : chunk<bf16>::blocks(n);
}

cld_status cld__optim_grad_norm(const cld_array *norm, const cld_array *factor, int count,
                                const cld_array *grads, double max_norm, const cld_step_control *control) {
    int64_t total = 0;
    for (int i = 0; i < count; i++) total += blocks_of(&grads[i]);
    if (total > INT32_MAX) return cld_fail(CLD_UNSUPPORTED, "grad_norm: the gradients are too large");
    norm_sum s = {NULL,
                  0,
                  (int)total,
                  norm->data,
                  norm->dtype == CLD_F64,
                  (double *)factor->data,
                  max_norm,
                  data_of<uint8_t>(control->condition),
                  data_of<float>(control->scale)};
    if (total == 0) return CLD_LAUNCH(no_norm, 1, 1, 0, s);
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, sizeof(double) * (size_t)total));
    s.partial = (double *)partial.data;
    CLD_TRY(sum_dtype<float>(count, grads, CLD_F32, &s));
    CLD_TRY(sum_dtype<bf16>(count, grads, CLD_BF16, &s));
    CLD_TRY(sum_dtype<f16>(count, grads, CLD_F16, &s));
    return sum_dtype<double>(count, grads, CLD_F64, &s);
}
