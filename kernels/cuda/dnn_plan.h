/* Plans of cuDNN's graph API, for dnn.c: finds, makes and runs the engines that can compute a convolution. */
#ifndef CLD_CUDA_DNN_PLAN_H
#define CLD_CUDA_DNN_PLAN_H

#include <cudnn.h>

#include "kernels/cuda/dnn.h"
#include "kernels/cuda/tune.h"

#define TRY_DNN(call)                                                                                        \
    do {                                                                                                     \
        cudnnStatus_t try_status = (call);                                                                   \
        if (try_status != CUDNN_STATUS_SUCCESS) return try_status;                                           \
    } while (0)

static inline void cld__dnn_destroy(cudnnBackendDescriptor_t *d) {
    if (*d) cudnnBackendDestroyDescriptor(*d);
    *d = NULL;
}
/* SCOPED d = NULL; is destroyed at the end of its scope. Objects made from it keep what they need. */
#define SCOPED __attribute__((cleanup(cld__dnn_destroy))) cudnnBackendDescriptor_t

/* What plans are made for: the device of a handle, or a described device, whose plans can be inspected but not run. */
typedef struct cld_dnn_target {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} cld_dnn_target;

/* "conv2d_data" */
const char *cld__dnn_name(cld_dnn_kind kind);
cudnnStatus_t cld__dnn_describe_graph(cudnnBackendDescriptor_t *out, const cld_dnn_target *t,
                                      cld_dnn_kind kind, const cld_dnn_shape *s, int64_t alignment);

/* The proposals of a heuristic, best first. */
typedef struct cld_dnn_configs {
    int count;
    cudnnBackendDescriptor_t list[CLD_MOST_CANDIDATES];
    int64_t engines[CLD_MOST_CANDIDATES];
} cld_dnn_configs;

/* None if the heuristic says that it has none. */
cudnnStatus_t cld__dnn_propose(cld_dnn_configs *out, const cld_dnn_target *t, cudnnBackendDescriptor_t graph,
                               cudnnBackendHeurMode_t mode);
/* Removes those that round more than allowed and, with repeatable, those whose order of summation varies from run to
 * run. */
void cld__dnn_keep_precise(cld_dnn_configs *c, const cld_dnn_shape *s, bool repeatable);
void cld__dnn_destroy_configs(cld_dnn_configs *c);

typedef struct cld_dnn_plan {
    cudnnBackendDescriptor_t config, plan; /* the configuration lives as long as the plan made from it */
    int64_t workspace;
} cld_dnn_plan;

/* Takes ownership of config. Returns CUDNN_STATUS_NOT_SUPPORTED_... if it cannot be run here. */
cudnnStatus_t cld__dnn_make_plan(cld_dnn_plan *out, const cld_dnn_target *t,
                                 cudnnBackendDescriptor_t *config);
void cld__dnn_discard(cld_dnn_plan *p);

/* The engine's number and its settings, from which make_config makes the same configuration. */
cudnnStatus_t cld__dnn_read_config(cld_conv_plan *out, cudnnBackendDescriptor_t config);
cudnnStatus_t cld__dnn_make_config(cudnnBackendDescriptor_t *out, cudnnBackendDescriptor_t graph,
                                   const cld_conv_plan *p, const cld_dnn_target *t);

typedef struct cld_dnn_arrays {
    void *x, *w, *y;
} cld_dnn_arrays;
cudnnStatus_t cld__dnn_execute(cudnnHandle_t handle, const cld_dnn_plan *p, const cld_dnn_arrays *a,
                               void *workspace);

#endif
