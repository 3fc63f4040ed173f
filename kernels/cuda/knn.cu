/* Exact k nearest neighbours by dot product, some queries at a time against the whole memory, and the vote for a class.
 *
 * Equal rows must come out equally similar, and among equally similar rows the first ones win. A library's product does
 * not guarantee that, and its factors may not be rounded here. So the similarities come from our own tiled product,
 * which sums every pair in the order of the dimensions. Then one block per query finds the k-th largest by radix
 * selection, 11 bits at a time, and lists the larger ones and as many equal ones as needed, in the order of the rows.
 * The vote selects in the same way from a list with more than k entries, and adds up in that order.
 *
 * A large memory is cut into parts of PART_ROWS rows. The nearest rows of each part are candidates, in the order of the
 * rows, and the nearest candidates are selected in the same way. The result is the same to the last bit. Scratch memory
 * is SIMILARITY_BYTES and the candidates, whatever the size of the memory. */
#include <string.h>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/loss.h"

/* For the similarities that are in memory at once. */
#define SIMILARITY_BYTES ((int64_t)128 << 20)
#define MOST_QUERIES     1024               /* enough for every multiprocessor, whatever the memory's size */
#define PART_ROWS        ((int64_t)1 << 18) /* with a tile's queries: SIMILARITY_BYTES, in f32 and f64 */

enum { SIDE = 16, PRODUCT_THREADS = SIDE * SIDE, DEPTH = 8, SELECT_THREADS = 512, VOTE_THREADS = 256 };
enum { DIGIT_BITS = 11, BINS = 1 << DIGIT_BITS, OWN_BINS = BINS / SELECT_THREADS };

template <typename T> struct knn_problem {
    int64_t size, dim, queries, k, pitch; /* pitch: distance between queries' similarities */
    const T *memory, *query;
};

/* ---- similarities ------------------------------------------------------------------------------------------------- */

/* A block's tile: TILE queries by TILE memory rows. A thread has 2 x 2 pieces of WIDTH x WIDTH, so that its reads from
 * shared memory are 16 bytes wide and adjacent to its neighbours'. */
template <typename T> struct tiling {
    static const int WIDTH = wide<T>::COUNT, OWN = 2 * WIDTH, TILE = SIDE * OWN;
    static const int PITCH = TILE / WIDTH + 1; /* in wide<T>: a column's elements lie in different banks */
    static const int LOADS = TILE * DEPTH / PRODUCT_THREADS;
    /* The place of a thread's element o, given the thread's place in a row or column of threads. */
    __device__ static int place(int thread, int o) {
        return o / WIDTH * (SIDE * WIDTH) + thread * WIDTH + o % WIDTH;
    }
};

/* Loads TILE rows from `first` on, DEPTH columns from d on; 0 beyond the array. */
template <typename T>
static __device__ inline void fetch(T values[tiling<T>::LOADS], const T *rows, int64_t first, int64_t count,
                                    int64_t d, int64_t dim) {
    const int STEP = PRODUCT_THREADS / DEPTH; /* rows between two loads of a thread */
    int64_t row = first + threadIdx.x / DEPTH, column = d + threadIdx.x % DEPTH;
    const T *from = rows + row * dim + column;
    int rest = column >= dim ? 0 : count - row < tiling<T>::TILE ? (int)(count - row) : tiling<T>::TILE;
#pragma unroll
    for (int l = 0; l < tiling<T>::LOADS; l++) values[l] = l * STEP < rest ? from[l * STEP * dim] : (T)0;
}

template <typename T>
static __device__ inline void put(wide<T> (*tile)[tiling<T>::PITCH], const T values[tiling<T>::LOADS]) {
#pragma unroll
    for (int l = 0; l < tiling<T>::LOADS; l++) {
        int e = l * PRODUCT_THREADS + (int)threadIdx.x;
        ((T *)tile[e % DEPTH])[e / DEPTH] = values[l];
    }
}

template <typename T>
static __device__ inline void take(T out[tiling<T>::OWN], const wide<T> *row, int thread) {
    const int WIDTH = tiling<T>::WIDTH;
#pragma unroll
    for (int o = 0; o < tiling<T>::OWN; o += WIDTH) {
        wide<T> v = row[tiling<T>::place(thread, o) / WIDTH];
#pragma unroll
        for (int e = 0; e < WIDTH; e++) out[o + e] = v.v[e];
    }
}

/* similarities (queries, pitch); `from`: the first query. */
template <typename T>
static __global__ void __launch_bounds__(PRODUCT_THREADS, 2)
    multiply(T *similarities, knn_problem<T> q, int64_t from, int64_t queries) {
    const int OWN = tiling<T>::OWN, TILE = tiling<T>::TILE, WIDTH = tiling<T>::WIDTH;
    CLD_SHARED(wide<T>, a, [DEPTH][tiling<T>::PITCH]);
    CLD_SHARED(wide<T>, b, [DEPTH][tiling<T>::PITCH]);
    int64_t first_row = (int64_t)blockIdx.x * TILE, first_query = (int64_t)blockIdx.y * TILE;
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    const T *query = q.query + from * q.dim;
    T sums[OWN][OWN], next_a[tiling<T>::LOADS], next_b[tiling<T>::LOADS];
#pragma unroll
    for (int i = 0; i < OWN; i++)
#pragma unroll
        for (int j = 0; j < OWN; j++) sums[i][j] = 0;
    fetch(next_a, query, first_query, queries, 0, q.dim);
    fetch(next_b, q.memory, first_row, q.size, 0, q.dim);
    for (int64_t d = 0; d < q.dim; d += DEPTH) {
        put(a, next_a);
        put(b, next_b);
        __syncthreads();
        fetch(next_a, query, first_query, queries, d + DEPTH, q.dim);
        fetch(next_b, q.memory, first_row, q.size, d + DEPTH, q.dim);
#pragma unroll
        for (int l = 0; l < DEPTH; l++) {
            T own_a[OWN], own_b[OWN];
            take(own_a, a[l], y);
            take(own_b, b[l], x);
#pragma unroll
            for (int i = 0; i < OWN; i++)
#pragma unroll
                for (int j = 0; j < OWN; j++) sums[i][j] = fused(own_a[i], own_b[j], sums[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        int64_t row = first_query + tiling<T>::place(y, i);
        if (row >= queries) continue;
#pragma unroll
        for (int j = 0; j < OWN; j += WIDTH) {
            int64_t column = first_row + tiling<T>::place(x, j);
            wide<T> v;
#pragma unroll
            for (int e = 0; e < WIDTH; e++) v.v[e] = sums[i][j + e];
            if (column < q.size) *(wide<T> *)(similarities + row * q.pitch + column) = v;
        }
    }
}

/* ---- selection ---------------------------------------------------------------------------------------------------- */

/* Bits that order as the numbers do; 0 for NaN and -infinity, which are no neighbours. */
static __device__ inline uint32_t key_of(float v) {
    uint32_t bits;
    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, sizeof bits);
    return !(v > -(float)INFINITY) ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
}
static __device__ inline uint64_t key_of(double v) {
    uint64_t bits;
    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, sizeof bits);
    return !(v > -(double)INFINITY) ? 0 : bits >> 63 ? ~bits : bits | (UINT64_C(1) << 63);
}

/* The input of a selection: a line of similarities per query. */
template <typename T> struct lines {
    const T *similarities; /* (queries, pitch), the first `size` of each */
    int64_t size, pitch;
    const int64_t *
        entries; /* (queries, pitch), the entry for each; NULL: its place in the line, counted from `first` */
    int64_t first;
};

/* The output of a selection: k for each query; if there are fewer neighbours, the rest is -infinity, with entry 0. */
template <typename T> struct neighbours {
    int64_t k, pitch; /* pitch: distance between consecutive queries */
    T *similarities;  /* (queries, pitch) */
    int64_t *entries; /* (queries, pitch) */
};

/* One step over the highest digits not yet known: which of the BINS holds the *wanted-th value, counted from the
 * largest; *wanted becomes its rank within that bin. By all threads. */
static __device__ inline int find_bin(int *wanted, const int *bins, int *found, int *shared) {
    int sum = 0, total;
    for (int o = 0; o < OWN_BINS; o++) sum += bins[BINS - 1 - ((int)threadIdx.x * OWN_BINS + o)];
    int before = block_before(sum, &total, shared);
    if (before < *wanted && *wanted <= before + sum) {
        int o = 0;
        for (;; o++) {
            int here = bins[BINS - 1 - ((int)threadIdx.x * OWN_BINS + o)];
            if (*wanted <= before + here) break;
            before += here;
        }
        found[0] = BINS - 1 - ((int)threadIdx.x * OWN_BINS + o);
        found[1] = *wanted - before;
    }
    __syncthreads();
    *wanted = found[1];
    return found[0];
}

/* One block per query. Lines are read WIDTH elements at a time, and are aligned to that. */
template <typename T, int WIDTH>
static __global__ void __launch_bounds__(SELECT_THREADS) select_nearest(neighbours<T> out, lines<T> in) {
    typedef decltype(key_of(T())) bits;
    CLD_SHARED(int, bins, [BINS]);
    CLD_SHARED(int, found, [2]);
    CLD_SHARED(int, shared, [BLOCK_WARPS]);
    const T *line = in.similarities + blockIdx.x * in.pitch;
    const int64_t *entries = in.entries ? in.entries + blockIdx.x * in.pitch : NULL;
    bits bar = 0, known = 0; /* the k-th largest key, and which of its bits are known */
    int wanted = (int)out.k;
    for (int shift = (int)sizeof(bits) * 8; shift > 0;) {
        int width = shift < DIGIT_BITS ? shift : (int)DIGIT_BITS;
        bits digit = ((bits)1 << width) - 1;
        shift -= width;
        for (int b = threadIdx.x; b < BINS; b += SELECT_THREADS) bins[b] = 0;
        __syncthreads();
        for (int64_t e = (int64_t)threadIdx.x * WIDTH; e < in.size; e += SELECT_THREADS * WIDTH) {
            wide<T, WIDTH> v = *(const wide<T, WIDTH> *)(line + e);
#pragma unroll
            for (int l = 0; l < WIDTH; l++) {
                bits key = key_of(v.v[l]);
                if (e + l < in.size && (key & known) == bar) atomicAdd(&bins[(int)(key >> shift & digit)], 1);
            }
        }
        __syncthreads();
        bar |= (bits)find_bin(&wanted, bins, found, shared) << shift;
        known |= digit << shift;
    }
    if (bar == 0) wanted = 0; /* there are fewer than k neighbours */
    int64_t start = blockIdx.x * out.pitch;
    int above = 0, equal = 0; /* so far */
    for (int64_t first = 0; first < in.size; first += SELECT_THREADS * WIDTH) {
        int64_t e = first + (int64_t)threadIdx.x * WIDTH;
        wide<T, WIDTH> v = {};
        int mine = 0, total; /* above, and equal << 16 */
        if (e < in.size) v = *(const wide<T, WIDTH> *)(line + e);
#pragma unroll
        for (int l = 0; l < WIDTH; l++) {
            bits key = key_of(v.v[l]);
            if (e + l < in.size) mine += (key > bar) + ((int)(key == bar) << 16);
        }
        int before = block_before(mine, &total, shared);
        int above_before = above + (before & 0xFFFF), equal_before = equal + (before >> 16);
        for (int l = 0; l < WIDTH && mine; l++) {
            bits key = key_of(v.v[l]);
            if (e + l >= in.size || key < bar) continue;
            if (key > bar || equal_before < wanted) {
                int64_t at = start + above_before + (equal_before < wanted ? equal_before : wanted);
                out.similarities[at] = v.v[l];
                out.entries[at] = entries ? entries[e + l] : in.first + e + l;
            }
            above_before += key > bar;
            equal_before += key == bar;
        }
        above += total & 0xFFFF;
        equal += total >> 16;
    }
    int64_t count = above + (equal < wanted ? equal : wanted);
    for (int64_t i = count + threadIdx.x; i < out.k; i += SELECT_THREADS) {
        out.similarities[start + i] = -limits<T>::infinity();
        out.entries[start + i] = 0;
    }
}

/* ---- nearest ------------------------------------------------------------------------------------------------------ */

static int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
static int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }

/* The nearest rows of each part, for n queries from `from` on. */
template <typename T>
static cld_status select_candidates(neighbours<T> candidates, T *similarities, knn_problem<T> q, int64_t from,
                                    int64_t n) {
    const int TILE = tiling<T>::TILE, WIDTH = wide<T>::COUNT;
    for (int64_t at = 0; at < q.size; at += PART_ROWS) {
        knn_problem<T> part = q;
        part.memory += at * q.dim, part.size = smaller_of(q.size - at, PART_ROWS);
        lines<T> in = {similarities, part.size, q.pitch, NULL, at};
        neighbours<T> out = candidates;
        out.k = smaller_of(q.k, part.size);
        dim3 tiles((unsigned)((part.size + TILE - 1) / TILE), (unsigned)((n + TILE - 1) / TILE));
        CLD_TRY(CLD_LAUNCH((multiply<T>), tiles, PRODUCT_THREADS, 0, similarities, part, from, n));
        CLD_TRY(CLD_LAUNCH((select_nearest<T, WIDTH>), (int)n, SELECT_THREADS, 0, out, in));
        candidates.similarities += out.k, candidates.entries += out.k;
    }
    return CLD_OK;
}

template <typename T> static cld_status nearest(neighbours<T> near, knn_problem<T> q) {
    const int WIDTH = wide<T>::COUNT, TILE = tiling<T>::TILE;
    int64_t part = smaller_of(q.size, PART_ROWS), last = q.size % part ? q.size % part : part;
    int64_t parts = (q.size + part - 1) / part;
    int64_t found = (parts - 1) * smaller_of(q.k, part) + smaller_of(q.k, last); /* candidates per query */
    q.pitch = rounded_up(part, WIDTH);
    int64_t most = SIMILARITY_BYTES / (q.pitch * (int64_t)sizeof(T)) / TILE * TILE;
    if (most < TILE) most = TILE;
    most = smaller_of(smaller_of(most, MOST_QUERIES), q.queries);
    int64_t pitch = rounded_up(found, WIDTH);
    CLD_SCRATCH similarity_block;
    CLD_SCRATCH candidate_block;
    CLD_SCRATCH entry_block;
    CLD_TRY(cld_cuda_scratch(&similarity_block, (size_t)(most * q.pitch) * sizeof(T)));
    if (parts > 1) {
        CLD_TRY(cld_cuda_scratch(&candidate_block, (size_t)(most * pitch) * sizeof(T)));
        CLD_TRY(cld_cuda_scratch(&entry_block, (size_t)(most * pitch) * sizeof(int64_t)));
    }
    neighbours<T> candidates = {q.k, pitch, (T *)candidate_block.data, (int64_t *)entry_block.data};
    lines<T> all = {candidates.similarities, found, pitch, candidates.entries, 0};
    for (int64_t from = 0; from < q.queries; from += most) {
        int64_t n = smaller_of(q.queries - from, most);
        CLD_TRY(select_candidates(parts > 1 ? candidates : near, (T *)similarity_block.data, q, from, n));
        if (parts > 1) CLD_TRY(CLD_LAUNCH((select_nearest<T, WIDTH>), (int)n, SELECT_THREADS, 0, near, all));
        near.similarities += n * near.pitch, near.entries += n * near.pitch;
    }
    return CLD_OK;
}

cld_status cld_cuda_nearest(const cld_array *similarities, const cld_array *index, const cld_array *memory,
                            const cld_array *queries) {
    if (cld_numel(index) == 0) return CLD_OK;
    CLD_BY_WIDE(memory->dtype, T, {
        knn_problem<T> q = {};
        q.size = memory->shape[0], q.dim = memory->shape[1], q.queries = queries->shape[0];
        q.k = index->shape[1], q.memory = (const T *)memory->data, q.query = (const T *)queries->data;
        neighbours<T> near = {q.k, q.k, (T *)similarities->data, (int64_t *)index->data};
        return nearest<T>(near, q);
    });
    return CLD_OK;
}

/* ---- vote --------------------------------------------------------------------------------------------------------- */

template <typename T> struct ballots {
    const T *similarities; /* (queries, k) */
    const int64_t *labels; /* (queries, k) */
    double *weights;       /* (queries, k), to be written */
    int64_t k, classes;
    double temperature;
};

static __device__ inline double log_of_most(float) { return log((double)FLT_MAX); }
static __device__ inline double log_of_most(double) { return log(DBL_MAX); }

/* One block per query. It finds what to subtract from the similarities before exp(similarity / T): nothing, unless a
 * sum of k such values, the largest among them, could leave the dtype's range. */
template <typename T>
static __global__ void __launch_bounds__(VOTE_THREADS) vote(T *scores, ballots<T> in, cld_fault *fault) {
    CLD_SHARED(T, shared, [BLOCK_WARPS]);
    int64_t start = blockIdx.x * in.k;
    T most = -limits<T>::infinity();
    for (int64_t i = threadIdx.x; i < in.k; i += VOTE_THREADS)
        most = larger(most, in.similarities[start + i]);
    most = block_largest(most, shared);
    bool fits = fabs((double)most / in.temperature) + log((double)in.k) < log_of_most(T());
    double shift = fits || !(most <= limits<T>::most() && most >= -limits<T>::most()) ? 0 : (double)most;
    for (int64_t i = threadIdx.x; i < in.k; i += VOTE_THREADS) {
        T similarity = in.similarities[start + i];
        bool votes = similarity > -limits<T>::infinity();
        in.weights[start + i] = votes ? exp((similarity - shift) / in.temperature) : 0;
        checked(fault, CLD_FAULT_KNN_LABEL, in.labels[start + i], in.classes);
    }
    __syncthreads();
    for (int64_t c = threadIdx.x; c < in.classes; c += VOTE_THREADS) {
        double sum = 0;
        for (int64_t i = 0; i < in.k; i++)
            if (in.labels[start + i] == c) sum += in.weights[start + i];
        scores[blockIdx.x * in.classes + c] = (T)sum;
    }
}

/* all: the queries' lines, of any length and alignment. */
template <typename T> static cld_status count_votes(T *scores, int64_t queries, lines<T> all, ballots<T> q) {
    int64_t most = smaller_of(queries, MOST_QUERIES);
    bool selects = q.k < all.size;
    CLD_SCRATCH weight_block;
    CLD_SCRATCH value_block;
    CLD_SCRATCH label_block;
    CLD_TRY(cld_cuda_scratch(&weight_block, (size_t)(most * q.k) * sizeof(double)));
    if (selects) {
        CLD_TRY(cld_cuda_scratch(&value_block, (size_t)(most * q.k) * sizeof(T)));
        CLD_TRY(cld_cuda_scratch(&label_block, (size_t)(most * q.k) * sizeof(int64_t)));
    }
    neighbours<T> near = {q.k, q.k, (T *)value_block.data, (int64_t *)label_block.data};
    q.weights = (double *)weight_block.data;
    for (int64_t from = 0; from < queries; from += most) {
        int n = (int)smaller_of(queries - from, most);
        if (selects) CLD_TRY(CLD_LAUNCH((select_nearest<T, 1>), n, SELECT_THREADS, 0, near, all));
        q.similarities = selects ? near.similarities : all.similarities;
        q.labels = selects ? near.entries : all.entries;
        CLD_TRY(CLD_LAUNCH((vote<T>), n, VOTE_THREADS, 0, scores + from * q.classes, q, cld_cuda_fault()));
        all.similarities += n * all.pitch, all.entries += n * all.pitch;
    }
    return CLD_OK;
}

cld_status cld_cuda_vote(const cld_array *scores, const cld_array *similarities, const cld_array *labels,
                         int64_t k, double temperature) {
    if (cld_numel(scores) == 0) return CLD_OK;
    CLD_BY_WIDE(scores->dtype, T, {
        int64_t size = similarities->shape[1];
        lines<T> all = {(const T *)similarities->data, size, size, (const int64_t *)labels->data, 0};
        ballots<T> q = {};
        q.k = k, q.classes = scores->shape[1], q.temperature = temperature;
        return count_votes<T>((T *)scores->data, scores->shape[0], all, q);
    });
    return CLD_OK;
}
