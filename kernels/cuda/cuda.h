/* Shared by the files of the plugin: its tables, its scratch memory, and how a kernel reports errors that it only finds
 * on the device. */
#ifndef CLD_CUDA_CUDA_H
#define CLD_CUDA_CUDA_H

#include "kernels/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *cld_cuda_name(void); /* of the open device, "cuda:0": backend.c */

extern const cld_memory_ops cld_cuda_memory_ops; /* memory.c */
extern const cld_math_ops cld_cuda_math;         /* math.c: elementwise.cu, reduce.cu, index.cu, ... */
extern const cld_conv_ops cld_cuda_conv;         /* conv.c: dnn.h, norm*.cu, pool.cu */
extern const cld_loss_ops cld_cuda_loss;         /* loss.c: bank.cu, kmeans.cu, knn.cu, ... */
extern const cld_optim_ops cld_cuda_optim;       /* optim.cu */
extern const cld_image_ops cld_cuda_image;       /* view.cu */
extern const cld_graph_ops cld_cuda_graph;       /* graph.c */
extern const cld_comm_ops cld_cuda_comm;         /* comm.c: nccl.h */
extern const cld_lane_ops cld_cuda_lane;         /* lane.c */

/* ---- scratch memory: from the caching allocator, so it may be released right after the launch that uses it --- */

typedef struct cld_scratch_block {
    void *data;
    size_t bytes;
} cld_scratch_block;
cld_status cld_cuda_scratch(cld_scratch_block *out, size_t bytes);
void cld_cuda_scratch_release(cld_scratch_block *block); /* also if it was never filled */
/* CLD_SCRATCH block; is released at the end of its scope. */
#ifdef __cplusplus
struct cld_scratch_scope : cld_scratch_block {
    cld_scratch_scope() : cld_scratch_block{NULL, 0} {}
    ~cld_scratch_scope() { cld_cuda_scratch_release(this); }
};
#    define CLD_SCRATCH cld_scratch_scope
#else
#    define CLD_SCRATCH __attribute__((cleanup(cld_cuda_scratch_release))) cld_scratch_block
#endif

/* ---- faults: fault.c ---------------------------------------------------------------------------------------------- */

/* A kernel that meets an index out of range uses another one in its place and reports it here. The next wait for the
 * device, or for one of its steps, turns it into an error. Each line has a name, and the start of the message: "gather:
 * index 12 ...". */
#define CLD_FAULTS(X)                                                                                        \
    X(CROSS_ENTROPY, "cross_entropy: label")                                                                 \
    X(GATHER, "gather: index")                                                                               \
    X(SCATTER_ADD, "scatter_add: index")                                                                     \
    X(INDEX_SELECT, "index_select: index")                                                                   \
    X(INDEX_ADD, "index_add: index")                                                                         \
    X(INDEX_COPY, "index_copy: index")                                                                       \
    X(BANK, "memory_bank: index")                                                                            \
    X(NEGATIVES, "memory_bank: negative")                                                                    \
    X(KNN_LABEL, "weighted_knn: label")                                                                      \
    X(IMAGE, "loader: image")                                                                                \
    X(DIVISION, "integer division: divisor")

typedef enum cld_fault_kind {
    CLD_FAULT_NONE,
#define CLD_ENUM(name, text) CLD_FAULT_##name,
    CLD_FAULTS(CLD_ENUM)
#undef CLD_ENUM
} cld_fault_kind;

/* On the device; a wait copies it to the host. */
typedef struct cld_fault {
    int kind; /* cld_fault_kind; claimed by the first kernel that reports */
    long long value, extent;
} cld_fault;

cld_fault *cld_cuda_fault(void);        /* for kernels */
cld_status cld_cuda_open_faults(void);  /* called when the device is opened */
cld_status cld_cuda_fetch_faults(void); /* before a wait for the device */
cld_status cld_cuda_check_faults(void); /* after it; clears the record */
cld_status cld_cuda_end_step(void);     /* of the contract */

/* ---- the lane of collectives: lane.c ------------------------------------------------------------------------------- */

/* The lane's stream, for a collective. An error that names `what` if a graph is being captured and the lane was not
 * forked within it. */
cld_status cld_cuda_use_lane(const char *what, void **stream);
bool cld_cuda_lane_is_open(void); /* something may have been queued there since the last join */
void cld_cuda_close_lane(void);   /* work queued there is lost, with the capture that it belonged to */

/* ---- tickets, ticket.cuh: ticket.c ------------------------------------------------------------------------------- */

enum { CLD_TICKETS = 512 };
unsigned *cld_cuda_tickets(void);       /* for kernels: twice CLD_TICKETS counters, 0 between launches */
cld_status cld_cuda_open_tickets(void); /* called when the device is opened */

#ifdef __cplusplus
}
#endif

#endif
