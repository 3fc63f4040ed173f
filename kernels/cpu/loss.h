/* The loss kernels of the CPU backend; their contract is in kernels/backend.h. */
#ifndef CLD_CPU_LOSS_H
#define CLD_CPU_LOSS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

CLD_INLINE float cld__dot_f32(const float *a, const float *b, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < n; d++) sum += a[d] * b[d];
    return sum;
}

/* Sums in order; for the f64 reference. */
static inline double cld__dot_f64(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t d = 0; d < n; d++) sum += a[d] * b[d];
    return sum;
}

/* A kernel's workspace is one block; cld__carve cuts arrays from it that start on cache lines. */
static inline size_t cld__lines(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static inline void *cld__carve(char **at, size_t bytes) {
    void *array = *at;
    *at += cld__lines(bytes);
    return array;
}

/* bank.c */
cld_status cld__bank_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                             const cld_array *bank, const cld_array *index, double temperature);
cld_status cld__queue_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                              const cld_array *key, const cld_array *queue, double temperature);
cld_status cld__bank_update(const cld_array *bank, const cld_array *index, const cld_array *f,
                            double momentum, const cld_array *condition);
cld_status cld__enqueue(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                        const cld_array *condition);
/* Checks that every entry of index is in 0 .. size - 1. If not, an error names the first that is not. */
cld_status cld__check_index(const char *op, const char *what, const cld_array *index, int64_t size);

/* nce.c */
cld_status cld__sample_negatives(const cld_array *negatives, const cld_array *draw, int64_t size,
                                 uint64_t seed);
cld_status cld__bank_nce(const cld_array *loss, const cld_array *df, const cld_array *z, const cld_array *f,
                         const cld_array *bank, const cld_array *index, const cld_array *negatives,
                         double temperature);

/* kmeans.c */
cld_status cld__kmeans(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                       const cld_array *sizes, const cld_array *empty, const cld_array *x,
                       const cld_parts *parts, int iterations);

/* knn.c */
cld_status cld__nearest(const cld_array *similarities, const cld_array *index, const cld_array *memory,
                        const cld_array *queries);
cld_status cld__vote(const cld_array *scores, const cld_array *similarities, const cld_array *labels,
                     int64_t k, double temperature);

#endif
