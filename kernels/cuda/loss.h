/* The functions behind cld_cuda_loss, by file; their contract is in kernels/backend.h. */
#ifndef CLD_CUDA_LOSS_H
#define CLD_CUDA_LOSS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* bank.cu */
cld_status cld_cuda_bank_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                                 const cld_array *bank, const cld_array *index, double temperature);
cld_status cld_cuda_queue_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                                  const cld_array *key, const cld_array *queue, double temperature);
/* renew.cu */
cld_status cld_cuda_bank_update(const cld_array *bank, const cld_array *index, const cld_array *f,
                                double momentum, const cld_array *condition);
cld_status cld_cuda_enqueue(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                            const cld_array *condition);
/* nce.cu */
cld_status cld_cuda_sample_negatives(const cld_array *negatives, const cld_array *draw, int64_t size,
                                     uint64_t seed);
cld_status cld_cuda_bank_nce(const cld_array *loss, const cld_array *df, const cld_array *z,
                             const cld_array *f, const cld_array *bank, const cld_array *index,
                             const cld_array *negatives, double temperature);
/* kmeans.cu, knn.cu */
cld_status cld_cuda_kmeans(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                           const cld_array *sizes, const cld_array *empty, const cld_array *x,
                           const cld_parts *parts, int iterations);
cld_status cld_cuda_nearest(const cld_array *similarities, const cld_array *index, const cld_array *memory,
                            const cld_array *queries);
cld_status cld_cuda_vote(const cld_array *scores, const cld_array *similarities, const cld_array *labels,
                         int64_t k, double temperature);

#ifdef __cplusplus
}
#endif

#endif
