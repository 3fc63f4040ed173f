/* The loss table: one line per entry of the contract. */
#include "kernels/cuda/loss.h"

const cld_loss_ops cld_cuda_loss = {
    .bank_softmax = cld_cuda_bank_softmax,
    .queue_softmax = cld_cuda_queue_softmax,
    .sample_negatives = cld_cuda_sample_negatives,
    .bank_nce = cld_cuda_bank_nce,
    .bank_update = cld_cuda_bank_update,
    .enqueue = cld_cuda_enqueue,
    .kmeans = cld_cuda_kmeans,
    .nearest = cld_cuda_nearest,
    .vote = cld_cuda_vote,
};
