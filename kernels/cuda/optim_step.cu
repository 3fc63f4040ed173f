/* The step of each rule (runtime/optim/{sgd,lars,adam}.c): one launch for all parameters of all groups; lars has
 * another one before it, for norms. A rule has three parts: what the first thread of a block computes for all (a power,
 * a ratio), the numbers that every thread then holds in its own type, and the update of one element of each array. */
#include "kernels/cuda/optim.cuh"
#include "kernels/cuda/optim_half.cuh" /* the 16-bit arrays */

enum { GROUPS = 16 }; /* groups whose settings fit into a launch */

/* HALF: some of the tensors have a 16-bit copy or gradient. */
template <int SLOTS, int CAPACITY, bool HALF> struct step_table {
    int count;
    int first[CAPACITY + 1]; /* the block at which tensor i starts; last: the number of blocks */
    int64_t n[CAPACITY];     /* elements */
    void *param[CAPACITY];
    const void *grad[CAPACITY];
    void *slots[SLOTS][CAPACITY]; /* NULL: none */
    int64_t *steps[CAPACITY];     /* NULL: not counted */
    uint8_t group[CAPACITY];
    cld_rule_settings settings[GROUPS];
    half_table<HALF ? CAPACITY : 1> half;
};

struct step_values {
    const double *lr;
    const uint8_t *condition;
    const float *scale;
    const double *factor;
    double *partial; /* lars: |w|^2 and |g|^2 of each block */
    __device__ bool holds() const { return !condition || *condition != 0; }
    __device__ double rate(const cld_rule_settings &s) const { return (lr ? *lr : s.lr) * s.lr_factor; }
    __device__ double unscale() const {
        double x = scale ? 1 / (double)*scale : 1;
        return factor ? x * *factor : x;
    }
};

/* The share of this block. */
template <typename T, bool HALF> struct share {
    int tensor, n, block; /* block: number within the tensor */
    int64_t start;
    template <typename table_type> __device__ explicit share(const table_type &table) {
        tensor = tensor_of(table.first, table.count, (int)blockIdx.x);
        block = (int)blockIdx.x - table.first[tensor];
        int size = HALF ? table.half.size[tensor] : chunk<T>::SIZE;
        start = (int64_t)block * size;
        int64_t rest = table.n[tensor] - start;
        n = rest < size ? (int)rest : size;
    }
};

/* The steps made with a tensor before this one, read by the first thread of each of its blocks. The upper half of the
 * count holds the number of blocks that have read it, so that only the last of them advances it; by then all have read
 * it. */
__device__ static int64_t count_step(int64_t *steps, int blocks) {
    unsigned long long *word = (unsigned long long *)steps;
    const unsigned long long one_block = 1ull << 40;
    unsigned long long before = atomicAdd(word, one_block);
    int64_t made = (int64_t)(before & (one_block - 1));
    if ((before >> 40) == (unsigned long long)blocks - 1) *steps = made + 1;
    return made;
}

/* ---- the rules ---------------------------------------------------------------------------------------------------- */

struct sgd {
    static const int SLOTS = 1;
    static const bool SUMS = false;
    static __device__ void prepare(const cld_rule_settings &p, double, int64_t made, double *out) {
        out[0] = made == 0 ? 1 : 1 - p.dampening;
    }
    template <typename T> struct on {
        T lr, momentum, decay, fresh, unscale;
        bool nesterov, has_buffer;
        __device__ on(const cld_rule_settings &p, const step_values &c, bool has_slots, const double *found)
            : lr((T)c.rate(p)), momentum((T)p.momentum), decay((T)p.weight_decay),
              fresh(found ? (T)found[0] : (T)(1 - p.dampening)), unscale((T)c.unscale()),
              nesterov(p.nesterov), has_buffer(has_slots) {}
        __device__ void apply(T *v) const {
            T g = unscale * v[2] + decay * v[0];
            if (!has_buffer) {
                v[0] -= lr * g;
                return;
            }
            v[1] = momentum * v[1] + fresh * g;
            v[0] -= lr * (nesterov ? g + momentum * v[1] : v[1]);
        }
    };
};

struct lars {
    static const int SLOTS = 1;
    static const bool SUMS = true;
    static __device__ void prepare(const cld_rule_settings &, double, int64_t, double *) {}
    /* g after the first line of the rule's definition (runtime/optim/lars.c) */
    template <typename T> struct gradient {
        T unscale, decay;
        __device__ gradient(const cld_rule_settings &p, const step_values &c)
            : unscale((T)c.unscale()), decay(p.adapt ? (T)p.weight_decay : (T)0) {}
        __device__ T of(T grad, T w) const { return unscale * grad + decay * w; }
    };
    template <typename T> struct on {
        T lr, momentum, ratio;
        gradient<T> g;
        bool has_buffer;
        __device__ on(const cld_rule_settings &p, const step_values &c, bool has_slots, const double *found)
            : lr((T)c.rate(p)), momentum((T)p.momentum), ratio(found ? (T)found[0] : (T)1), g(p, c),
              has_buffer(has_slots) {}
        __device__ void apply(T *v) const {
            v[1] = (has_buffer ? momentum * v[1] : (T)0) + ratio * g.of(v[2], v[0]);
            v[0] -= lr * v[1];
        }
    };
};

__device__ inline float root_of(float x) { return sqrtf(x); }
__device__ inline double root_of(double x) { return sqrt(x); }

struct adam {
    static const int SLOTS = 2;
    static const bool SUMS = false;
    static __device__ void prepare(const cld_rule_settings &p, double lr, int64_t made, double *out) {
        out[0] = lr / (1 - pow(p.beta1, (double)(made + 1)));
        out[1] = 1 / sqrt(1 - pow(p.beta2, (double)(made + 1)));
    }
    template <typename T> struct on {
        T unscale, coupled, keep, beta1, take1, beta2, take2, rate, root, eps;
        __device__ on(const cld_rule_settings &p, const step_values &c, bool, const double *found)
            : unscale((T)c.unscale()), coupled(p.decoupled ? (T)0 : (T)p.weight_decay),
              keep(p.decoupled ? (T)(1 - c.rate(p) * p.weight_decay) : (T)1), beta1((T)p.beta1),
              take1((T)(1 - p.beta1)), beta2((T)p.beta2), take2((T)(1 - p.beta2)), rate((T)found[0]),
              root((T)found[1]), eps((T)p.eps) {}
        __device__ void apply(T *v) const {
            T g = unscale * v[3] + coupled * v[0];
            v[1] = beta1 * v[1] + take1 * g;
            v[2] = beta2 * v[2] + take2 * g * g;
            v[0] = keep * v[0] - rate * v[1] / (root_of(v[2]) * root + eps);
        }
    };
};

/* ---- lars: |w|^2 and |g|^2 of each block, then the ratio of its tensor ---------------------------------------------- */

template <typename T, int CAPACITY, bool HALF>
__global__ void __launch_bounds__(THREADS)
    lars_norms(const step_table<1, CAPACITY, HALF> table, const step_values c) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    CLD_SHARED(uint16_t, tile, [HALF ? HALF_TILE : 1]);
    if (!c.holds()) return;
    share<T, HALF> mine(table);
    const cld_rule_settings &p = table.settings[table.group[mine.tensor]];
    if (!p.adapt) return;
    const T *w = (const T *)table.param[mine.tensor] + mine.start;
    const T *grad = (const T *)table.grad[mine.tensor] + mine.start;
    lars::gradient<T> g(p, c);
    half_tile<HALF> half(table.half, mine.tensor, mine.block, tile);
    half.fetch(table.grad[mine.tensor], mine.n);
    double weights = 0, gradients = 0;
    for (int e = (int)threadIdx.x; e < mine.n; e += THREADS) {
        T x = w[e], y = g.of(half.has_grad() ? (T)half.grad(e) : grad[e], x);
        weights += (double)x * (double)x;
        gradients += (double)y * (double)y;
    }
    weights = block_sum(weights, shared);
    gradients = block_sum(gradients, shared);
    if (threadIdx.x != 0) return;
    c.partial[2 * (int)blockIdx.x] = weights;
    c.partial[2 * (int)blockIdx.x + 1] = gradients;
}

/* Called by all threads of a block. Each block computes the ratio for itself, in the same order. */
template <typename table_type>
__device__ static double ratio_of(const table_type &table, int tensor, const cld_rule_settings &p,
                                  const double *partial, double *shared) {
    double weights = 0, gradients = 0;
    for (int b = table.first[tensor] + (int)threadIdx.x; b < table.first[tensor + 1]; b += THREADS) {
        weights += partial[2 * b];
        gradients += partial[2 * b + 1];
    }
    weights = sqrt(block_sum(weights, shared));
    gradients = sqrt(block_sum(gradients, shared));
    return weights > 0 && gradients > 0 ? p.eta * weights / gradients : 1;
}

/* ---- the step ------------------------------------------------------------------------------------------------------ */

/* Applies the rule to n elements from at[] on (NULL: none, or in the tile). All loads of a thread's ROUNDS groups are
 * in flight before the first is used. */
template <typename T, typename rule, bool HALF>
__device__ static void apply_all(T *const *at, int n, const typename rule::template on<T> &r,
                                 const half_tile<HALF> &half) {
    const int WIDTH = wide<T>::COUNT, ARRAYS = rule::SLOTS + 2, WRITTEN = rule::SLOTS + 1;
    bool aligned = true;
#pragma unroll
    for (int k = 0; k < ARRAYS; k++) aligned = aligned && is_wide(at[k]);
    int whole = aligned ? n / WIDTH * WIDTH : 0; /* elements in groups of 16 bytes */
    wide<T> v[ROUNDS][ARRAYS];
#pragma unroll
    for (int j = 0; j < ROUNDS; j++) {
        int e = (j * THREADS + (int)threadIdx.x) * WIDTH;
#pragma unroll
        for (int k = 0; k < ARRAYS; k++)
            if (e < whole && at[k]) v[j][k] = *(const wide<T> *)(at[k] + e);
    }
#pragma unroll
    for (int j = 0; j < ROUNDS; j++) {
        int e = (j * THREADS + (int)threadIdx.x) * WIDTH;
        if (e >= whole) break;
#pragma unroll
        for (int l = 0; l < WIDTH; l++) {
            T values[ARRAYS];
#pragma unroll
            for (int k = 0; k < ARRAYS; k++) values[k] = v[j][k].v[l];
            if (half.has_grad()) values[ARRAYS - 1] = (T)half.grad(e + l);
            r.apply(values);
            if (half.has_copy()) half.put(e + l, (float)values[0]);
#pragma unroll
            for (int k = 0; k < WRITTEN; k++) v[j][k].v[l] = values[k];
        }
#pragma unroll
        for (int k = 0; k < WRITTEN; k++)
            if (at[k]) *(wide<T> *)(at[k] + e) = v[j][k];
    }
    for (int e = whole + (int)threadIdx.x; e < n; e += THREADS) {
        T values[ARRAYS];
#pragma unroll
        for (int k = 0; k < ARRAYS; k++)
            if (at[k]) values[k] = at[k][e];
        if (half.has_grad()) values[ARRAYS - 1] = (T)half.grad(e);
        r.apply(values);
        if (half.has_copy()) half.put(e, (float)values[0]);
#pragma unroll
        for (int k = 0; k < WRITTEN; k++)
            if (at[k]) at[k][e] = values[k];
    }
}

template <typename T, typename rule, int CAPACITY, bool HALF>
__global__ void __launch_bounds__(THREADS, 2)
    make_step(const step_table<rule::SLOTS, CAPACITY, HALF> table, const step_values c) {
    CLD_SHARED(double, found, [2]);
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    CLD_SHARED(uint16_t, tile, [HALF ? HALF_TILE : 1]);
    if (!c.holds()) return;
    share<T, HALF> mine(table);
    int i = mine.tensor;
    const cld_rule_settings &p = table.settings[table.group[i]];
    bool any = false;
    if (rule::SUMS && p.adapt) {
        double ratio = ratio_of(table, i, p, c.partial, shared);
        if (threadIdx.x == 0) found[0] = ratio;
        any = true;
    } else if (table.steps[i]) {
        if (threadIdx.x == 0)
            rule::prepare(p, c.rate(p), count_step(table.steps[i], table.first[i + 1] - table.first[i]),
                          found);
        any = true;
    }
    if (any) __syncthreads();
    typename rule::template on<T> r(p, c, table.slots[0][i] != NULL, any ? found : NULL);
    T *at[rule::SLOTS + 2];
    at[0] = (T *)table.param[i] + mine.start;
#pragma unroll
    for (int k = 0; k < rule::SLOTS; k++)
        at[k + 1] = table.slots[k][i] ? (T *)table.slots[k][i] + mine.start : NULL;
    half_tile<HALF> half(table.half, i, mine.block, tile);
    half.fetch(table.grad[i], mine.n);
    at[rule::SLOTS + 1] = half.has_grad() ? NULL : (T *)table.grad[i] + mine.start;
    apply_all<T, rule, HALF>(at, mine.n, r, half);
    half.deliver(mine.n);
}

/* ---- launches ------------------------------------------------------------------------------------------------------ */

struct step_call {
    int count;
    const cld_step_tensor *tensors;
    const cld_rule_settings *settings;
    cld_dtype dtype;
    step_values values;
};

/* Adds tensors from `from` on, as many as the table holds; returns the number of blocks. */
template <typename T, bool HALF, typename table_type>
static int64_t fill_table(table_type *table, int capacity, int slots, int *from, const step_call &call) {
    int64_t blocks = 0;
    int groups = 0, last_group = -1;
    table->count = 0;
    for (; *from < call.count && table->count < capacity; ++*from) {
        const cld_step_tensor *t = &call.tensors[*from];
        if (t->dtype != call.dtype || t->n == 0) continue;
        if (HALF) place_half(&table->half, table->count, t, chunk<T>::SIZE);
        int64_t size = HALF ? table->half.size[table->count] : chunk<T>::SIZE;
        int64_t more = (t->n + size - 1) / size;
        if (blocks + more > INT32_MAX && table->count > 0) break;
        if (t->settings != last_group) {
            if (groups == GROUPS) break;
            table->settings[groups++] = call.settings[t->settings];
            last_group = t->settings;
        }
        int i = table->count++;
        table->first[i] = (int)blocks;
        table->n[i] = t->n;
        table->param[i] = t->param;
        table->grad[i] = t->grad;
        for (int k = 0; k < slots; k++) table->slots[k][i] = t->slots[k];
        table->steps[i] = t->steps;
        table->group[i] = (uint8_t)(groups - 1);
        blocks += more;
    }
    table->first[table->count] = (int)blocks;
    return blocks;
}

/* The launch before the step itself, for rules that have one. */
template <typename T, typename rule, int CAPACITY, bool HALF> struct sums {
    static cld_status launch(const step_table<rule::SLOTS, CAPACITY, HALF> &, int, step_values *,
                             cld_scratch_block *) {
        return CLD_OK;
    }
};
template <typename T, int CAPACITY, bool HALF> struct sums<T, lars, CAPACITY, HALF> {
    static cld_status launch(const step_table<1, CAPACITY, HALF> &table, int blocks, step_values *values,
                             cld_scratch_block *scratch) {
        CLD_TRY(cld_cuda_scratch(scratch, sizeof(double) * 2 * (size_t)blocks));
        values->partial = (double *)scratch->data;
        return CLD_LAUNCH((lars_norms<T, CAPACITY, HALF>), blocks, THREADS, 0, table, *values);
    }
};

template <typename T, typename rule, int CAPACITY, bool HALF>
static cld_status launch_some(int *from, const step_call &call) {
    step_table<rule::SLOTS, CAPACITY, HALF> table;
    static_assert(sizeof table + sizeof(step_values) <= MOST_PARAMETERS, "a launch takes no more");
    step_values values = call.values;
    int blocks = (int)fill_table<T, HALF>(&table, CAPACITY, rule::SLOTS, from, call);
    if (blocks == 0) return CLD_OK;
    CLD_SCRATCH scratch;
    CLD_TRY((sums<T, rule, CAPACITY, HALF>::launch(table, blocks, &values, &scratch)));
    return CLD_LAUNCH((make_step<T, rule, CAPACITY, HALF>), blocks, THREADS, 0, table, values);
}

/* MANY: how many tensors fit into the table, given the rule's number of slots. */
template <typename T, typename rule, bool HALF> static cld_status launch_all(const step_call &call) {
    const int MANY = (HALF ? 400 : 560) + (rule::SLOTS == 1 ? HALF ? 50 : 100 : 0);
    for (int from = 0; from < call.count;) {
        if (call.count - from <= FEW)
            CLD_TRY((launch_some<T, rule, FEW, HALF>(&from, call)));
        else
            CLD_TRY((launch_some<T, rule, MANY, HALF>(&from, call)));
    }
    return CLD_OK;
}

template <typename rule> static cld_status step_by(step_call call) {
    bool half = false;
    for (int i = 0; i < call.count; i++) half = half || has_half(&call.tensors[i]);
    call.dtype = CLD_F32;
    CLD_TRY((half ? launch_all<float, rule, true>(call) : launch_all<float, rule, false>(call)));
    call.dtype = CLD_F64;
    return launch_all<double, rule, false>(call);
}

cld_status cld__optim_step(cld_rule rule, int count, const cld_step_tensor *tensors,
                           const cld_rule_settings *settings, const cld_step_control *control) {
    const step_call call = {count,
                            tensors,
                            settings,
                            CLD_F32,
                            {data_of<double>(control->lr), data_of<uint8_t>(control->condition),
                             data_of<float>(control->scale), data_of<double>(control->factor), NULL}};
    if (rule == CLD_SGD) return step_by<sgd>(call);
    return rule == CLD_LARS ? step_by<lars>(call) : step_by<adam>(call);
}
