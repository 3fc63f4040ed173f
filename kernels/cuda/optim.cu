/* The parts of an optimizer besides its step: moving averages, the check for finite gradients, factors, the loss scale.
 * A rule updates one element of each of its arrays; the arrays that it writes come first. */
#include "kernels/cuda/optim.cuh"

enum { MANY = 800 }; /* tensors per launch */

template <int ARRAYS, int CAPACITY> struct tensor_table {
    int count;
    int first[CAPACITY + 1]; /* the block at which tensor i starts; last: the number of blocks */
    int64_t n[CAPACITY];     /* elements */
    void *data[ARRAYS][CAPACITY];
};

/* All loads of a thread's ROUNDS groups are in flight before the first is used. */
template <typename T, typename rule, int CAPACITY>
__global__ void __launch_bounds__(THREADS, 2)
    apply_rule(const tensor_table<rule::ARRAYS, CAPACITY> table, const rule parameters) {
    const int WIDTH = wide<T>::COUNT;
    typename rule::template on<T> r(parameters);
    if (!r.holds()) return;
    int i = tensor_of(table.first, table.count, (int)blockIdx.x);
    int64_t start = (int64_t)((int)blockIdx.x - table.first[i]) * chunk<T>::SIZE;
    int64_t rest = table.n[i] - start;
    int n = rest < chunk<T>::SIZE ? (int)rest : chunk<T>::SIZE;
    T *at[rule::ARRAYS];
    bool aligned = true;
#pragma unroll
    for (int k = 0; k < rule::ARRAYS; k++) {
        at[k] = (T *)table.data[k][i] + start;
        aligned = aligned && is_wide(at[k]);
    }
    int whole = aligned ? n / WIDTH * WIDTH : 0; /* elements in groups of 16 bytes */
    wide<T> v[ROUNDS][rule::ARRAYS];
#pragma unroll
    for (int j = 0; j < ROUNDS; j++) {
        int e = (j * THREADS + (int)threadIdx.x) * WIDTH;
#pragma unroll
        for (int k = 0; k < rule::ARRAYS; k++)
            if (e < whole) v[j][k] = *(const wide<T> *)(at[k] + e);
    }
#pragma unroll
    for (int j = 0; j < ROUNDS; j++) {
        int e = (j * THREADS + (int)threadIdx.x) * WIDTH;
        if (e >= whole) break;
#pragma unroll
        for (int l = 0; l < WIDTH; l++) {
            T values[rule::ARRAYS];
#pragma unroll
            for (int k = 0; k < rule::ARRAYS; k++) values[k] = v[j][k].v[l];
            r.apply(values);
#pragma unroll
            for (int k = 0; k < rule::WRITTEN; k++) v[j][k].v[l] = values[k];
        }
#pragma unroll
        for (int k = 0; k < rule::WRITTEN; k++) *(wide<T> *)(at[k] + e) = v[j][k];
    }
    for (int e = whole + (int)threadIdx.x; e < n; e += THREADS) {
        T values[rule::ARRAYS];
#pragma unroll
        for (int k = 0; k < rule::ARRAYS; k++) values[k] = at[k][e];
        r.apply(values);
#pragma unroll
        for (int k = 0; k < rule::WRITTEN; k++) at[k][e] = values[k];
    }
}

/* Adds tensors from `from` on, as many as the table holds; returns where it stopped. */
template <typename T, typename rule, int CAPACITY>
static cld_status launch_some(int *from, int count, const cld_array *const arrays[rule::ARRAYS],
                              cld_dtype dtype, const rule &parameters) {
    tensor_table<rule::ARRAYS, CAPACITY> table;
    int64_t blocks = 0;
    table.count = 0;
    for (; *from < count && table.count < CAPACITY; ++*from) {
        const cld_array *a = &arrays[0][*from];
        int64_t n = cld_numel(a), more = chunk<T>::blocks(n);
        if (a->dtype != dtype || n == 0) continue;
        if (blocks + more > INT32_MAX && table.count > 0) break;
        int i = table.count++;
        table.first[i] = (int)blocks;
        table.n[i] = n;
        for (int k = 0; k < rule::ARRAYS; k++) table.data[k][i] = arrays[k][*from].data;
        blocks += more;
    }
    if (table.count == 0) return CLD_OK;
    table.first[table.count] = (int)blocks;
    return CLD_LAUNCH((apply_rule<T, rule, CAPACITY>), (int)blocks, THREADS, 0, table, parameters);
}

/* Applies the rule to all tensors of this dtype. */
template <typename T, typename rule>
static cld_status to_all(int count, const cld_array *const arrays[rule::ARRAYS], cld_dtype dtype,
                         const rule &parameters) {
    for (int from = 0; from < count;) {
        if (count - from <= FEW)
            CLD_TRY((launch_some<T, rule, FEW>(&from, count, arrays, dtype, parameters)));
        else
            CLD_TRY((launch_some<T, rule, MANY>(&from, count, arrays, dtype, parameters)));
    }
    return CLD_OK;
}

template <typename rule>
static cld_status to_all_wide(int count, const cld_array *const arrays[rule::ARRAYS],
                              const rule &parameters) {
    CLD_TRY((to_all<float, rule>(count, arrays, CLD_F32, parameters)));
    return to_all<double, rule>(count, arrays, CLD_F64, parameters);
}

/* ---- moving average: target, source ------------------------------------------------------------------------------- */

struct average {
    static const int ARRAYS = 2, WRITTEN = 1;
    double decay;
    const double *decay_on_device; /* replaces it, or NULL */
    const uint8_t *condition;
    template <typename T> struct on {
        T keep, take;
        bool made;
        __device__ explicit on(const average &p) : made(!p.condition || *p.condition != 0) {
            double decay = p.decay_on_device ? *p.decay_on_device : p.decay;
            keep = (T)decay;
            take = (T)(1 - decay);
        }
        __device__ bool holds() const { return made; }
        __device__ void apply(T *v) const { v[0] = keep * v[0] + take * v[1]; }
    };
};

static cld_status ema(int count, const cld_array *targets, const cld_array *sources, double decay,
                      const cld_array *decay_tensor, const cld_array *condition) {
    const cld_array *const arrays[] = {targets, sources};
    return to_all_wide(count, arrays,
                       average{decay, data_of<double>(decay_tensor), data_of<uint8_t>(condition)});
}

/* ---- factors ------------------------------------------------------------------------------------------------------ */

struct multiplication {
    static const int ARRAYS = 1, WRITTEN = 1;
    const double *factor;
    template <typename T> struct on {
        T factor;
        __device__ explicit on(const multiplication &p) : factor((T)*p.factor) {}
        __device__ bool holds() const { return true; }
        __device__ void apply(T *v) const { v[0] *= factor; }
    };
};

static cld_status scale(int count, const cld_array *arrays, const cld_array *factor) {
    const cld_array *const lists[] = {arrays};
    return to_all_wide(count, lists, multiplication{data_of<double>(factor)});
}

/* ---- is every element finite? ------------------------------------------------------------------------------------- */

/* A thread that meets one that is not finite clears the flag; all write the same value. */
struct finiteness {
    static const int ARRAYS = 1, WRITTEN = 0;
    uint8_t *flag;
    template <typename T> struct on {
        uint8_t *flag;
        __device__ explicit on(const finiteness &p) : flag(p.flag) {}
        __device__ bool holds() const { return true; }
        __device__ void apply(T *v) const {
            auto x = load(v[0]);
            if (!(x - x == 0)) *flag = 0;
        }
    };
};

static cld_status all_finite(const cld_array *flag, int count, const cld_array *arrays) {
    const cld_array *const lists[] = {arrays};
    finiteness f = {(uint8_t *)flag->data};
    CLD_TRY((to_all<float, finiteness>(count, lists, CLD_F32, f)));
    CLD_TRY((to_all<bf16, finiteness>(count, lists, CLD_BF16, f)));
    CLD_TRY((to_all<f16, finiteness>(count, lists, CLD_F16, f)));
    return to_all<double, finiteness>(count, lists, CLD_F64, f);
}

/* ---- the loss scale ----------------------------------------------------------------------------------------------- */

static __global__ void next_scale(float *scale, int *good, const uint8_t *condition,
                                  const cld_scale_params p) {
    if (condition && *condition == 0) {
        *scale *= (float)p.backoff;
        *good = 0;
    } else if (++*good >= p.interval) {
        float grown = *scale * (float)p.growth;
        if (isfinite(grown)) *scale = grown;
        *good = 0;
    }
}

static cld_status update_scale(const cld_array *scale, const cld_array *good, const cld_array *condition,
                               const cld_scale_params *p) {
    return CLD_LAUNCH(next_scale, 1, 1, 0, (float *)scale->data, (int *)good->data,
                      data_of<uint8_t>(condition), *p);
}

extern const cld_optim_ops cld_cuda_optim = {cld__optim_step, ema, cld__optim_grad_norm, scale, all_finite,
                                             update_scale,    true};
