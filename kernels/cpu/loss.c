/* The loss table: one line per entry of the contract. */
#include "kernels/cpu/loss.h"

const cld_loss_ops cld_cpu_loss = {
    .bank_softmax = cld__bank_softmax,
    .queue_softmax = cld__queue_softmax,
    .sample_negatives = cld__sample_negatives,
    .bank_nce = cld__bank_nce,
    .bank_update = cld__bank_update,
    .enqueue = cld__enqueue,
    .kmeans = cld__kmeans,
    .nearest = cld__nearest,
    .vote = cld__vote,
};
