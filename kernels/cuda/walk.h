/* Loops over arrays of any strides and layouts, planned on the host. Dimensions are ordered so that the output is
 * walked in memory order, and merged if all arrays allow it. Arrays that are dense in the same way, including channels
 * last, become a single line. walk.cuh hands such a plan to a kernel. */
#ifndef CLD_CUDA_WALK_H
#define CLD_CUDA_WALK_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CLD_WALK_ARRAYS 4

typedef struct cld_walk {
    int arrays, ndim; /* ndim >= 1; the last dimension is the innermost */
    int64_t numel;
    int64_t shape[CLD_MAX_DIMS];
    int64_t strides[CLD_WALK_ARRAYS][CLD_MAX_DIMS]; /* in elements */
    char *data[CLD_WALK_ARRAYS];
    size_t size[CLD_WALK_ARRAYS]; /* of an element, in bytes */
} cld_walk;

/* All of one shape; arrays[0] is the output. */
cld_walk cld_walk_of(const cld_array *const arrays[], int count);

/* Kernels count in 32 bits: a walk with more elements than this is split in two, repeatedly. */
#define CLD_WALK_MOST ((int64_t)1 << 30)
void cld_walk_halve(const cld_walk *w, cld_walk halves[2]);

/* Whether the walk may go in steps of `width` elements, each read or written in one access by every array whose
 * innermost stride is 1. Other strides there must be 0. The last step may be partial if there is only one dimension. */
bool cld_walk_fits(const cld_walk *w, int width);

/* The same elements with strides; for a blocked array, channels last. */
cld_array cld_with_strides(const cld_array *a);
/* a's shape, dense and row-major, with another dtype and data. */
cld_array cld_dense_like(const cld_array *a, cld_dtype dtype, void *data);

#ifdef __cplusplus
}
#endif

#endif
