/* A walk (walk.h) as a kernel: every elementwise operation is a job for it. A thread takes a few steps of V elements, a
 * block's width apart, so that a warp's accesses are adjacent and 16 bytes wide. It reads all of them before it
 * computes, and computes before it writes, so that many reads are in flight at once.
 *
 *     struct negate_job {
 *         static const int ARRAYS = 2;
 *         float *out;
 *         const float *x;
 *         template <int V, int U> struct registers { cld_pack<float, V> x[U]; ... };   a thread's U steps of V elements
 *         template <int V, typename R> __device__ void load(R &r, int u, ...) const;   step u, from element `at` of x
 *         template <typename R> __device__ void compute(R &r) const;
 *         template <int V, typename R> __device__ void save(R &r, int u, ...) const;
 *     };
 */
#ifndef CLD_CUDA_WALK_CUH
#define CLD_CUDA_WALK_CUH

#include <string.h>
#include <type_traits>

#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/walk.h"

/* ---- wide accesses ------------------------------------------------------------------------------------------------ */

/* V elements, copied by one instruction and kept as they came: narrow ones in words of 32 bits. Extracting an element
 * from its word waits for the word, and so does passing it on as an element at the end of a branch: then no other read
 * would be in flight. */
template <typename T, int V, bool IN_WORDS = (sizeof(T) < 4 && sizeof(T) * V >= 4)>
struct alignas(sizeof(T) * V) cld_pack {
    T e[V];
    __device__ T get(int i) const { return e[i]; }
    __device__ void set(int i, T x) { e[i] = x; }
};
template <typename T, int V> struct alignas(sizeof(T) * V) cld_pack<T, V, true> {
    static const int EACH = 4 / (int)sizeof(T), BITS = 8 * (int)sizeof(T);
    typedef typename std::conditional<sizeof(T) == 2, uint16_t, uint8_t>::type bits;
    typedef uint32_t __attribute__((may_alias)) word;
    word words[V / EACH];
    __device__ T get(int i) const {
        bits b = (bits)(words[i / EACH] >> i % EACH * BITS);
        T x;
        memcpy(&x, &b, sizeof x);
        return x;
    }
    __device__ void set(int i, T x) { /* in ascending order */
        bits b;
        memcpy(&b, &x, sizeof b);
        words[i / EACH] = (i % EACH ? words[i / EACH] : 0) | (uint32_t)b << i % EACH * BITS;
    }
};

/* Elements of a step: 16 bytes of the wider of two types, but at most 8 elements. */
constexpr int cld_width(size_t size) { return size >= 16 / 8 ? (int)(16 / size) : 8; }
#define CLD_WIDTH(T, U) cld_width(sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U))

/* Loads V elements: in one access if they are adjacent, the same element for all if the stride is 0. The last V - left
 * of a partial step become `rest`. */
template <int V, typename T>
__device__ inline void load_step(cld_pack<T, V> *to, const T *from, bool same, int left, T rest) {
    if (V > 1 && !same && left >= V) {
        *to = *reinterpret_cast<const cld_pack<T, V> *>(from);
        return;
    }
    CLD_UNROLL
    for (int i = 0; i < V; i++) to->set(i, i < left ? from[same ? 0 : i] : rest);
}

template <int V, typename T> __device__ inline void save_step(T *to, const T *from, int left) {
    if (V > 1 && left >= V) {
        cld_pack<T, V> p;
        CLD_UNROLL
        for (int i = 0; i < V; i++) p.set(i, from[i]);
        *reinterpret_cast<cld_pack<T, V> *>(to) = p;
        return;
    }
    CLD_UNROLL
    for (int i = 0; i < V; i++)
        if (i < left) to[i] = from[i];
}

/* ---- the kernel --------------------------------------------------------------------------------------------------- */

template <int N> struct cld_loops {
    cld_dims<N> dims; /* in steps; strides in elements */
    uint32_t steps, elements;
    bool same[N]; /* all elements of a step are the same element in memory */
};

/* Number of steps per thread. */
#define CLD_WALK_STEPS(V) ((V) == 1 ? 4 : 2)
#define CLD_WALK_THREADS  256

template <typename Job, int V>
__global__ void __launch_bounds__(CLD_WALK_THREADS) walk(Job job, cld_loops<Job::ARRAYS> l) {
    const int U = CLD_WALK_STEPS(V);
    typename Job::template registers<V, U> r;
    int64_t at[U][Job::ARRAYS] = {};
    int left[U];
    uint32_t first = blockIdx.x * (CLD_WALK_THREADS * U) + threadIdx.x;
    CLD_UNROLL
    for (int u = 0; u < U; u++) {
        uint32_t step = first + u * CLD_WALK_THREADS;
        uint32_t rest = step < l.steps ? l.elements - step * V : 0;
        left[u] = rest < V ? (int)rest : V;
        if (left[u] > 0) locate<Job::ARRAYS>(at[u], l.dims, step);
        job.template load<V>(r, u, at[u], l.same, left[u]); /* neutral values if there is nothing left */
    }
    job.compute(r);
    CLD_UNROLL
    for (int u = 0; u < U; u++)
        if (left[u] > 0) job.template save<V>(r, u, at[u][0], left[u]);
}

template <int N> static cld_loops<N> loops_of(const cld_walk *w, int width) {
    cld_loops<N> l = {};
    int inner = w->ndim - 1;
    l.dims.total = 1;
    l.elements = (uint32_t)w->numel;
    l.steps = (uint32_t)((w->numel + width - 1) / width);
    for (int d = 0; d < w->ndim; d++) {
        int64_t strides[N];
        for (int k = 0; k < N; k++) strides[k] = w->strides[k][d] * (d == inner ? width : 1);
        push_dim<N>(&l.dims, d == inner ? (w->shape[d] + width - 1) / width : w->shape[d], strides);
    }
    for (int k = 0; k < N; k++) l.same[k] = w->strides[k][inner] == 0;
    return l;
}

/* V: elements per step, if the arrays allow it. */
template <typename Job, int V> static cld_status run_walk(Job job, const cld_walk *w) {
    if (w->numel == 0) return CLD_OK;
    if (w->numel > CLD_WALK_MOST) {
        cld_walk halves[2];
        cld_walk_halve(w, halves);
        CLD_TRY((run_walk<Job, V>(job, &halves[0])));
        return run_walk<Job, V>(job, &halves[1]);
    }
    job.point_at(w->data);
    if (cld_walk_fits(w, V)) {
        cld_loops<Job::ARRAYS> l = loops_of<Job::ARRAYS>(w, V);
        uint32_t threads = CLD_WALK_THREADS * CLD_WALK_STEPS(V);
        return CLD_LAUNCH((walk<Job, V>), (int)((l.steps + threads - 1) / threads), CLD_WALK_THREADS, 0, job,
                          l);
    }
    cld_loops<Job::ARRAYS> l = loops_of<Job::ARRAYS>(w, 1);
    uint32_t threads = CLD_WALK_THREADS * CLD_WALK_STEPS(1);
    return CLD_LAUNCH((walk<Job, 1>), (int)((l.steps + threads - 1) / threads), CLD_WALK_THREADS, 0, job, l);
}

#endif
