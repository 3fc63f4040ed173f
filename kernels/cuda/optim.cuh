/* Many tensors in one launch, for the optimizers.
 *
 * A network has a few large tensors and many tiny ones, and a launch per tensor would cost more than its work. So the
 * tensors' addresses are passed in a table that is part of the kernel's parameters. Each block takes chunk<T>::SIZE
 * elements of one tensor, and finds the tensor by bisection. The table lies in constant memory: nothing is copied to
 * the device before the launch, and a captured graph holds it. */
#ifndef CLD_CUDA_OPTIM_CUH
#define CLD_CUDA_OPTIM_CUH

#include "kernels/cuda/block.cuh"

enum { THREADS = 256, ROUNDS = 4, FEW = 64, MOST_PARAMETERS = 32000 /* bytes; a launch takes 32764 */ };

template <typename T> struct chunk {
    static const int SIZE = THREADS * ROUNDS * wide<T>::COUNT; /* elements per block */
    static int64_t blocks(int64_t n) { return (n + SIZE - 1) / SIZE; }
};

/* The last tensor that starts at or before this block; first[i] is the block at which tensor i starts. */
__device__ inline int tensor_of(const int *first, int count, int block) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (first[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

template <typename T> static const T *data_of(const cld_array *a) { return a ? (const T *)a->data : NULL; }

extern "C" {
cld_status cld__optim_step(cld_rule rule, int count, const cld_step_tensor *tensors,
                           const cld_rule_settings *settings,
                           const cld_step_control *control); /* optim_step.cu */
cld_status cld__optim_grad_norm(const cld_array *norm, const cld_array *factor, int count,
                                const cld_array *grads, double max_norm,
                                const cld_step_control *control); /* optim_norm.cu */
}

#endif
