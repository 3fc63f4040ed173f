/* Sorted lines, for topk and for indexing. Every value becomes an unsigned key in the requested order (NaN above all
 * numbers, -0 equal to 0), together with its place in the line, which breaks ties. */
#ifndef CLD_CUDA_SORT_H
#define CLD_CUDA_SORT_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cld_sorted {
    uint64_t key; /* for an integer, ascending: the integer ^ CLD_SIGN_BIT */
    int64_t index;
} cld_sorted;

#define CLD_SIGN_BIT (UINT64_C(1) << 63)

/* The first k of each line of x along dim, in order: (lines, k), with lines counted row-major over the other
 * dimensions. k and the number of elements are not 0. */
cld_status cld_cuda_sort_lines(cld_scratch_block *sorted, const cld_array *x, int dim, int64_t k,
                               bool descending);

#ifdef __cplusplus
}
#endif

#endif
