/* The collectives of CUDA devices: NCCL's, queued on the lane (lane.c). There is one communicator, which lives until
 * the process ends. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/nccl.h"

static const cld_nccl *nccl; /* NULL until it is asked for */
static ncclComm_t comm;      /* NULL until the device joins the job */

/* ---- what went wrong ---------------------------------------------------------------------------------------------- */

/* CLD_OK, or an error that says what was being done, with NCCL's text or a better one. */
static cld_status status_of(ncclResult_t result, const char *what) {
    int a, b;
    if (result == ncclSuccess) return CLD_OK;
    const char *more = nccl->GetLastError(NULL), *twice;
    if (!more) more = "";
    if ((twice = strstr(more, "Duplicate GPU")) && sscanf(twice, "%*[^:]: rank %d and rank %d", &a, &b) == 2)
        return cld_fail(CLD_INVALID,
                        "ranks %d and %d have the same GPU, and each needs one of its own: start no more "
                        "ranks on a machine than it has GPUs (srun: --gpus-per-task 1)",
                        a < b ? a : b, a < b ? b : a);
    if (result == ncclUnhandledCudaError) CLD_TRY(cld_cuda_check_lost(what));
    return cld_fail(CLD_BACKEND, "%s: NCCL: %s%s%s%s", what, nccl->GetErrorString(result), *more ? " (" : "",
                    more, *more ? ")" : "");
}

/* ---- joining the job ---------------------------------------------------------------------------------------------- */

static cld_status find_nccl(void) {
    if (!nccl) nccl = cld__nccl();
    return nccl ? CLD_OK : cld_error_code();
}

static const char *library(void) {
    static _Thread_local char text[32];
    int version = 0;
    if (find_nccl() != CLD_OK || nccl->GetVersion(&version) != ncclSuccess) return "NCCL (not found)";
    snprintf(text, sizeof text, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return text;
}

static cld_status make_id(unsigned char id[CLD_COMM_ID_BYTES]) {
    ncclUniqueId made;
    CLD_TRY(find_nccl());
    CLD_TRY(status_of(nccl->GetUniqueId(&made), "starting collectives"));
    memcpy(id, made.internal, CLD_COMM_ID_BYTES);
    return CLD_OK;
}

static cld_status start(const unsigned char id[CLD_COMM_ID_BYTES], int rank, int world) {
    ncclUniqueId of;
    if (comm) return cld_fail(CLD_INVALID, "%s has already joined the job", cld_cuda_name());
    CLD_TRY(find_nccl());
    memcpy(of.internal, id, CLD_COMM_ID_BYTES);
    cld_cuda_stream(); /* makes the device current on this thread, for NCCL */
    return status_of(nccl->CommInitRank(&comm, world, of, rank), "starting collectives");
}

/* ---- collectives -------------------------------------------------------------------------------------------------- */

static const ncclDataType_t types[CLD_DTYPE_COUNT] = {[CLD_U8] = ncclUint8,
                                                      [CLD_I32] = ncclInt32,
                                                      [CLD_I64] = ncclInt64,
                                                      [CLD_F32] = ncclFloat32,
                                                      [CLD_F64] = ncclFloat64};

/* The lane's stream, for a collective of the job. */
static cld_status begin(const char *what, void **stream) {
    if (!comm) return cld_fail(CLD_INVALID, "%s: %s has not joined the job", what, cld_cuda_name());
    return cld_cuda_use_lane(what, stream);
}

/* The operator for each dtype. A sum of scaled values needs an operator that is made for one call. */
typedef struct operators {
    ncclRedOp_t of[CLD_DTYPE_COUNT];
    bool made[CLD_DTYPE_COUNT];
} operators;

static ncclResult_t make_operator(operators *out, cld_dtype dtype, double scale) {
    float narrow = (float)scale;
    void *value = dtype == CLD_F32 ? (void *)&narrow : (void *)&scale;
    if (out->made[dtype]) return ncclSuccess;
    ncclResult_t result =
        nccl->RedOpCreatePreMulSum(&out->of[dtype], value, types[dtype], ncclScalarHostImmediate, comm);
    out->made[dtype] = result == ncclSuccess;
    return result;
}

static ncclResult_t make_operators(operators *out, int count, const cld_array *arrays, cld_comm_kind kind,
                                   double scale) {
    static const ncclRedOp_t kinds[] = {
        [CLD_COMM_SUM] = ncclSum, [CLD_COMM_MAX] = ncclMax, [CLD_COMM_MIN] = ncclMin};
    ncclResult_t result = ncclSuccess;
    for (int i = 0; i < CLD_DTYPE_COUNT; i++) out->of[i] = kinds[kind];
    if (kind != CLD_COMM_SUM || scale == 1) return ncclSuccess;
    for (int i = 0; i < count && result == ncclSuccess; i++)
        if (arrays[i].dtype == CLD_F32 || arrays[i].dtype == CLD_F64)
            result = make_operator(out, arrays[i].dtype, scale);
    return result;
}

static void destroy_operators(const operators *made) {
    for (int i = 0; i < CLD_DTYPE_COUNT; i++)
        if (made->made[i]) nccl->RedOpDestroy(made->of[i], comm);
}

/* All of them in one launch. */
static ncclResult_t reduce_each(int count, const cld_array *arrays, const operators *with, void *stream) {
    ncclResult_t result = nccl->GroupStart();
    if (result != ncclSuccess) return result;
    for (int i = 0; i < count && result == ncclSuccess; i++) {
        const cld_array *a = &arrays[i];
        if (cld_numel(a) > 0)
            result = nccl->AllReduce(a->data, a->data, (size_t)cld_numel(a), types[a->dtype],
                                     with->of[a->dtype], comm, stream);
    }
    ncclResult_t ended = nccl->GroupEnd();
    return result != ncclSuccess ? result : ended;
}

static cld_status all_reduce(int count, const cld_array *arrays, cld_comm_kind kind, double scale) {
    void *stream;
    operators with = {{0}, {0}};
    CLD_TRY(begin("all_reduce", &stream));
    ncclResult_t result = make_operators(&with, count, arrays, kind, scale);
    if (result == ncclSuccess) result = reduce_each(count, arrays, &with, stream);
    cld_status status = status_of(result, "all_reduce");
    destroy_operators(&with);
    return status;
}

static cld_status all_gather(const cld_array *out, const cld_array *in) {
    void *stream;
    CLD_TRY(begin("all_gather", &stream));
    if (cld_numel(in) == 0) return CLD_OK;
    return status_of(
        nccl->AllGather(in->data, out->data, (size_t)cld_numel(in), types[in->dtype], comm, stream),
        "all_gather");
}

static cld_status reduce_scatter(const cld_array *out, const cld_array *in) {
    void *stream;
    CLD_TRY(begin("reduce_scatter", &stream));
    if (cld_numel(out) == 0) return CLD_OK;
    return status_of(nccl->ReduceScatter(in->data, out->data, (size_t)cld_numel(out), types[in->dtype],
                                         ncclSum, comm, stream),
                     "reduce_scatter");
}

static cld_status broadcast(int count, const cld_array *arrays, int from) {
    void *stream;
    CLD_TRY(begin("broadcast", &stream));
    ncclResult_t result = nccl->GroupStart();
    if (result != ncclSuccess) return status_of(result, "broadcast");
    for (int i = 0; i < count && result == ncclSuccess; i++) {
        const cld_array *a = &arrays[i];
        if (cld_numel(a) > 0)
            result =
                nccl->Broadcast(a->data, a->data, (size_t)cld_numel(a), types[a->dtype], from, comm, stream);
    }
    ncclResult_t ended = nccl->GroupEnd();
    return status_of(result != ncclSuccess ? result : ended, "broadcast");
}

static ncclResult_t exchange_each(int sends, const cld_comm_piece *sent, int receives,
                                  const cld_comm_piece *received, void *stream) {
    ncclResult_t result = nccl->GroupStart();
    if (result != ncclSuccess) return result;
    for (int i = 0; i < sends && result == ncclSuccess; i++)
        result = nccl->Send(sent[i].data, (size_t)sent[i].bytes, ncclUint8, sent[i].rank, comm, stream);
    for (int i = 0; i < receives && result == ncclSuccess; i++)
        result = nccl->Recv(received[i].data, (size_t)received[i].bytes, ncclUint8, received[i].rank, comm,
                            stream);
    ncclResult_t ended = nccl->GroupEnd();
    return result != ncclSuccess ? result : ended;
}

static cld_status exchange(int sends, const cld_comm_piece *sent, int receives,
                           const cld_comm_piece *received) {
    void *stream;
    CLD_TRY(begin("exchange", &stream));
    return status_of(exchange_each(sends, sent, receives, received, stream), "exchange");
}

static cld_status check(void) {
    ncclResult_t found = ncclSuccess;
    if (!comm) return CLD_OK;
    CLD_TRY(status_of(nccl->CommGetAsyncError(comm, &found), "collectives"));
    return status_of(found == ncclInProgress ? ncclSuccess : found, "collectives");
}

const cld_comm_ops cld_cuda_comm = {
    .library = library,
    .make_id = make_id,
    .start = start,
    .all_reduce = all_reduce,
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .broadcast = broadcast,
    .exchange = exchange,
    .check = check,
};
