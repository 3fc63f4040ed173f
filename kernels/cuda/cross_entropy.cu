/* Cross entropy of rows of logits with labels, with its gradient and the share of hits, in one pass: a row's loss and
 * whether it is a hit follow from its largest logit, the sum of exp(x - largest), and whether any logit beats the
 * label's.
 *
 * Each thread of a row (lines.cuh) reads its part once, and the results are merged. Sums are kept relative to the
 * largest logit so far (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). A thread keeps what
 * it reads first in registers for the gradient; for longer rows it reads the rest again. The rows' losses and hits go
 * to scratch memory, and a second launch adds them up in order. If rows may be ignored, the gradient of the mean needs
 * their number, which an earlier launch counts. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"

enum { CHUNK = 8, THREADS = CLD_LINE_THREADS };

struct score {
    double loss;
    int hit, counted;
};

template <typename T> struct cross_entropy_problem {
    const T *logits;
    const int64_t *labels;
    T *loss, *dlogits;       /* loss: of each row, or NULL; dlogits may be NULL */
    score *scores;           /* or NULL */
    double scale, smoothing; /* scale: 1 / temperature */
    double weight;           /* weight of a row in the loss, */
    const double *weight_at; /* or, if not NULL, where it is stored */
    bool ignores;
    int64_t ignored;
    cld_fault *fault;
};

/* CHUNK elements of a row from `start` on, WIDTH adjacent ones, then the next ones `along` threads further on. Beyond
 * the end they are -infinity, which changes neither a maximum nor a sum of exponentials. */
template <typename T, int WIDTH> struct piece {
    typedef typename cld_compute<T>::type C;
    C v[CHUNK];
    int64_t first, step;
    __device__ piece(const T *row, const cld_place &p, int64_t start, int64_t length)
        : first(start + (int64_t)p.mine * WIDTH), step((int64_t)p.along * WIDTH) {
        CLD_UNROLL
        for (int j = 0; j < CHUNK; j += WIDTH) {
            wide<T, WIDTH> x = {};
            if (at(j) < length) x = *(const wide<T, WIDTH> *)(row + at(j));
            CLD_UNROLL
            for (int e = 0; e < WIDTH; e++) v[j + e] = at(j) < length ? load(x.v[e]) : -(C)INFINITY;
        }
    }
    __device__ int64_t at(int j) const { return first + j / WIDTH * step + j % WIDTH; }
};

/* Partial results for a row, from some of its elements. */
template <typename C> struct mass {
    C largest;
    int beaten;         /* one of them beats the label's, or is NaN: a row with a NaN has no largest logit */
    double sum, logits; /* of exp(scale (x - largest)); of the logits themselves, if labels are smoothed */
};

/* exp(scale (from - to)), for to >= from. */
template <typename C> __device__ inline C shrink(C from, C to, C scale) {
    return from == to ? (C)1 : exponential((from - to) * scale);
}

template <typename C> __device__ inline mass<C> merged(const mass<C> &a, const mass<C> &b, C scale) {
    C m = b.largest > a.largest ? b.largest : a.largest;
    return {m, a.beaten | b.beaten, a.sum * shrink(a.largest, m, scale) + b.sum * shrink(b.largest, m, scale),
            a.logits + b.logits};
}

template <typename T, int WIDTH, typename C>
__device__ inline mass<C> mass_of(const piece<T, WIDTH> &x, int64_t length, int64_t label, C at_label,
                                  const cross_entropy_problem<T> &q) {
    C m = -(C)INFINITY, sum = 0;
    mass<C> own = {};
    CLD_UNROLL
    for (int j = 0; j < CHUNK; j++) {
        C v = x.v[j];
        bool before = x.at(j) < label, nan = v != v;
        m = v > m ? v : m;
        own.beaten |= nan || (before ? v >= at_label : v > at_label); /* not the first among the largest */
        if (q.smoothing != 0 && x.at(j) < length) own.logits += v;
    }
    C base = m == -(C)INFINITY ? (C)0 : m; /* so that exp(-infinity - m) is 0 */
    CLD_UNROLL
    for (int j = 0; j < CHUNK; j++) sum += exponential((x.v[j] - base) * (C)q.scale);
    own.largest = m, own.sum = sum;
    return own;
}

template <typename T, int WIDTH, typename C>
__device__ inline void write_gradient(T *dx, const piece<T, WIDTH> &x, int64_t length, int64_t label, C m,
                                      C share, double row_weight, const cross_entropy_problem<T> &q) {
    C scale = (C)q.scale, weight = (C)(row_weight * q.scale);
    C sharp = (C)(1 - q.smoothing), soft = (C)(q.smoothing / (double)length);
    CLD_UNROLL
    for (int j = 0; j < CHUNK; j += WIDTH) {
        wide<T, WIDTH> out;
        CLD_UNROLL
        for (int e = 0; e < WIDTH; e++) {
            C difference = exponential((x.v[j + e] - m) * scale) * share - soft;
            if (x.at(j + e) == label) difference -= sharp;
            out.v[e] = store<T>(weight == 0 ? (C)0 : difference * weight);
        }
        if (x.at(j) < length) *(wide<T, WIDTH> *)(dx + x.at(j)) = out;
    }
}

/* -sum_c q_c log p_c, where log p_c = scale (x_c - largest) - log(sum). The differences remove the offset that all
 * logits share before anything is rounded to its last bit. A row with a NaN, or with -infinity only, gives NaN: its sum
 * is NaN or 0. */
template <typename T, typename C>
__device__ inline double loss_of(const mass<C> &row, C at_label, int64_t length,
                                 const cross_entropy_problem<T> &q) {
    double m = (double)row.largest;
    double loss = log(row.sum) + q.scale * (1 - q.smoothing) * (m - (double)at_label);
    return q.smoothing == 0 ? loss : loss + q.scale * q.smoothing * (m - row.logits / (double)length);
}

template <typename T, int WIDTH>
static __global__ void __launch_bounds__(THREADS) cross_entropy(cross_entropy_problem<T> q, cld_lines<1> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(mass<C>, shared, [THREADS]);
    cld_place p = place_of(l);
    int64_t length = p.line < l.dims.total ? l.length : 0, label = length > 0 ? q.labels[p.line] : 0;
    int64_t stride = (int64_t)p.along * CHUNK;
    const T *row = q.logits + p.line * l.length;
    bool valid = label >= 0 && label < length, counted = !(q.ignores && label == q.ignored);
    C at_label = valid ? load(row[label]) : (C)NAN;
    piece<T, WIDTH> kept(row, p, 0, length);
    C scale = (C)q.scale;
    mass<C> own = mass_of(kept, length, label, at_label, q);
    for (int64_t start = stride; start < length; start += stride)
        own = merged(own, mass_of(piece<T, WIDTH>(row, p, start, length), length, label, at_label, q), scale);
    mass<C> whole =
        over_line(shared, p, own, [=](const mass<C> &a, const mass<C> &b) { return merged(a, b, scale); });
    if (p.line >= l.dims.total) return;
    if (p.mine == 0) {
        double loss = counted ? loss_of(whole, at_label, length, q) : 0;
        if (!valid && counted) report(q.fault, CLD_FAULT_CROSS_ENTROPY, q.labels[p.line], l.length);
        if (q.loss) q.loss[p.line] = store<T>(loss);
        if (q.scores) q.scores[p.line] = score{loss, counted && valid && !whole.beaten, counted};
    }
    if (!q.dlogits) return;
    T *dx = q.dlogits + p.line * l.length;
    C share = (C)(1 / whole.sum);
    double weight = !counted ? 0 : q.weight_at ? *q.weight_at : q.weight;
    write_gradient(dx, kept, length, label, whole.largest, share, weight, q);
    for (int64_t start = stride; start < length; start += stride)
        write_gradient(dx, piece<T, WIDTH>(row, p, start, length), length, label, whole.largest, share,
                       weight, q);
}

/* One block. The weight of a row in the mean over those that are not ignored. */
static __global__ void __launch_bounds__(THREADS)
    weigh_rows(double *weight, const int64_t *labels, int64_t rows, int64_t ignored) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    double counted = 0;
    for (int64_t i = threadIdx.x; i < rows; i += THREADS) counted += labels[i] != ignored;
    counted = block_sum(counted, shared);
    if (threadIdx.x == 0) *weight = 1 / counted;
}

/* One block. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_scores(T *loss, float *share, const score *scores, int64_t rows, bool mean) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    double sum = 0, hits = 0, counted = 0;
    for (int64_t i = threadIdx.x; i < rows; i += THREADS) {
        sum += scores[i].loss;
        hits += scores[i].hit;
        counted += scores[i].counted;
    }
    sum = block_sum(sum, shared);
    hits = block_sum(hits, shared);
    counted = block_sum(counted, shared);
    if (threadIdx.x > 0) return;
    if (loss) *loss = store<T>(mean ? sum * (1 / counted) : sum);
    if (share) *share = (float)(hits / counted);
}

template <typename T>
static cld_status score_rows(const cross_entropy_problem<T> &q, const cld_array *logits) {
    constexpr int COUNT = wide<T>::COUNT;
    cld_lines<1> l = cld_lines_of<1>({logits}, 1, CHUNK);
    if (l.length % COUNT == 0 && is_wide(q.logits) && is_wide(q.dlogits))
        return CLD_LAUNCH((cross_entropy<T, COUNT>), cld_line_blocks(l), THREADS, 0, q, l);
    return CLD_LAUNCH((cross_entropy<T, 1>), cld_line_blocks(l), THREADS, 0, q, l);
}

template <typename T>
static cld_status run(cross_entropy_problem<T> q, const cld_array *loss, const cld_array *share,
                      const cld_array *logits, cld_row_reduction reduction) {
    int64_t rows = logits->shape[0];
    bool each = reduction == CLD_EACH_ROW, mean = reduction == CLD_MEAN_OF_ROWS, summed = !each || share;
    CLD_SCRATCH block;
    CLD_SCRATCH weight;
    if (mean && q.ignores && q.dlogits && rows > 0) {
        CLD_TRY(cld_cuda_scratch(&weight, sizeof(double)));
        CLD_TRY(CLD_LAUNCH(weigh_rows, 1, THREADS, 0, (double *)weight.data, q.labels, rows, q.ignored));
        q.weight_at = (const double *)weight.data;
    }
    if (summed) CLD_TRY(cld_cuda_scratch(&block, (size_t)rows * sizeof(score)));
    q.scores = (score *)block.data;
    q.loss = each ? (T *)loss->data : NULL;
    if (rows > 0) CLD_TRY(score_rows(q, logits));
    if (!summed) return CLD_OK;
    return CLD_LAUNCH((add_scores<T>), 1, THREADS, 0, each ? (T *)nullptr : (T *)loss->data,
                      share ? (float *)share->data : (float *)nullptr, (const score *)q.scores, rows, mean);
}

cld_status cld_cuda_cross_entropy(const cld_array *loss, const cld_array *share, const cld_array *dlogits,
                                  const cld_array *logits, const cld_array *labels,
                                  const cld_cross_entropy_params *p) {
    double weight = p->reduction == CLD_MEAN_OF_ROWS ? 1 / (double)logits->shape[0] : 1;
    CLD_BY_FLOAT(logits->dtype, T, {
        cross_entropy_problem<T> q = {};
        q.logits = (const T *)logits->data, q.labels = (const int64_t *)labels->data;
        q.dlogits = dlogits ? (T *)dlogits->data : NULL;
        q.scale = 1 / p->temperature, q.smoothing = p->label_smoothing, q.weight = weight;
        q.ignores = p->ignores, q.ignored = p->ignored;
        q.fault = cld_cuda_fault();
        return run<T>(q, loss, share, logits, p->reduction);
    });
    return CLD_OK;
}
