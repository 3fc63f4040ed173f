/* NCCL, as far as collectives need it: its public names and values, and the functions of the library that was found.
 *
 * The library is not needed to build, and not linked: nccl.c opens libnccl.so.2 when a job of several processes needs
 * it. In the specs host/nccl.cpp replaces it. */
#ifndef CLD_CUDA_NCCL_H
#define CLD_CUDA_NCCL_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- NCCL's own --------------------------------------------------------------------------------------------------- */

typedef struct ncclComm *ncclComm_t;
typedef struct ncclUniqueId {
    char internal[CLD_COMM_ID_BYTES];
} ncclUniqueId;

typedef enum ncclResult_t {
    ncclSuccess = 0,
    ncclUnhandledCudaError = 1,
    ncclSystemError = 2,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
    ncclRemoteError = 6,
    ncclInProgress = 7
} ncclResult_t;

typedef enum ncclDataType_t {
    ncclUint8 = 1,
    ncclInt32 = 2,
    ncclInt64 = 4,
    ncclFloat32 = 7,
    ncclFloat64 = 8
} ncclDataType_t;

/* From ncclNumOps on, operators are those that a program has made. */
typedef enum ncclRedOp_t {
    ncclSum = 0,
    ncclMax = 2,
    ncclMin = 3,
    ncclNumOps = 5,
    ncclMaxRedOp = 0x7fffffff
} ncclRedOp_t;

typedef enum ncclScalarResidence_t { ncclScalarHostImmediate = 1 } ncclScalarResidence_t;

/* Name after "nccl", result, arguments; a stream is a cudaStream_t. */
#define CLD_NCCL_FUNCTIONS(X)                                                                                \
    X(GetVersion, ncclResult_t, (int *version))                                                              \
    X(GetErrorString, const char *, (ncclResult_t result))                                                   \
    X(GetLastError, const char *,                                                                            \
      (ncclComm_t comm)) /* more about the last failed call of any communicator */                           \
    X(GetUniqueId, ncclResult_t, (ncclUniqueId * id))                                                        \
    X(CommInitRank, ncclResult_t, (ncclComm_t * comm, int ranks, ncclUniqueId id, int rank))                 \
    X(CommGetAsyncError, ncclResult_t, (ncclComm_t comm, ncclResult_t * error))                              \
    X(GroupStart, ncclResult_t, (void))                                                                      \
    X(GroupEnd, ncclResult_t, (void))                                                                        \
    X(RedOpCreatePreMulSum, ncclResult_t,                                                                    \
      (ncclRedOp_t * op, void *scalar, ncclDataType_t type, ncclScalarResidence_t where, ncclComm_t comm))   \
    X(RedOpDestroy, ncclResult_t, (ncclRedOp_t op, ncclComm_t comm))                                         \
    X(AllReduce, ncclResult_t,                                                                               \
      (const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,  \
       void *stream))                                                                                        \
    X(ReduceScatter, ncclResult_t,                                                                           \
      (const void *send, void *receive, size_t received, ncclDataType_t type, ncclRedOp_t op,                \
       ncclComm_t comm, void *stream))                                                                       \
    X(AllGather, ncclResult_t,                                                                               \
      (const void *send, void *receive, size_t sent, ncclDataType_t type, ncclComm_t comm, void *stream))    \
    X(Broadcast, ncclResult_t,                                                                               \
      (const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,        \
       void *stream))                                                                                        \
    X(Send, ncclResult_t,                                                                                    \
      (const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, void *stream))        \
    X(Recv, ncclResult_t,                                                                                    \
      (void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, void *stream))

/* ---- what was found ----------------------------------------------------------------------------------------------- */

typedef struct cld_nccl {
#define CLD_POINTER(name, result, arguments) result(*name) arguments;
    CLD_NCCL_FUNCTIONS(CLD_POINTER)
#undef CLD_POINTER
} cld_nccl;

/* NULL if something is missing; the error says what. The library is opened only once. */
const cld_nccl *cld__nccl(void);

#ifdef __cplusplus
}
#endif

#endif
