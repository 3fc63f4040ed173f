/* nccl.h on the host, for the specs: the processes on one machine, each with an emulated device.
 *
 * It is stricter than NCCL. Ranks that call different collectives get an error instead of a hang or wrong sums. So does
 * a rank that captures a collective that it has never run, or that replays a graph while others do not. The outputs of
 * a collective hold bytes of 0xff until the lane is joined. Sums are made in the order of the ranks. */
#include "kernels/cuda/nccl.h"

#include <memory>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/peers.h"

struct ncclComm {
    cld_peers peers;
    int rank, world;
    std::set<std::string> done; /* the collectives that have run at least once */
    ncclComm(const char *name, int rank, int world, uint64_t chip)
        : peers(name, rank, world, chip), rank(rank), world(world) {}
};

static ncclComm *joined; /* the process's only one */

/* ---- what went wrong ---------------------------------------------------------------------------------------------- */

static std::string last_error;

static ncclResult_t fail(ncclResult_t result, const std::string &text) {
    last_error = text;
    return result;
}

static const char *ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

static const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    default: return "internal error";
    }
}

static ncclResult_t status_of(const cld_peers &peers) {
    if (peers.problem.empty()) return ncclSuccess;
    return fail(peers.is_theirs ? ncclRemoteError : ncclInvalidUsage, peers.problem);
}

/* ---- communicators ------------------------------------------------------------------------------------------------ */

static ncclResult_t ncclGetVersion(int *version) {
    *version = 22700;
    return ncclSuccess;
}

static ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 0, sizeof *id);
    return cld_peers_make(id->internal, sizeof id->internal) ? ncclSuccess
                                                             : fail(ncclSystemError, "no shared memory");
}

/* Each process has its own chip, unless CLD_HOST_CHIP sets one. */
static uint64_t chip() {
    const char *named = getenv("CLD_HOST_CHIP");
    return named && *named ? strtoull(named, NULL, 10) : (uint64_t)getpid();
}

static ncclResult_t ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id, int rank) {
    *out = nullptr;
    if (rank < 0 || rank >= ranks || memchr(id.internal, 0, sizeof id.internal) == nullptr)
        return fail(ncclInvalidArgument, "ncclCommInitRank: no such rank, or no such id");
    if (joined) return fail(ncclInvalidUsage, "ncclCommInitRank: this process has a communicator already");
    std::unique_ptr<ncclComm> comm(new ncclComm(id.internal, rank, ranks, chip()));
    ncclResult_t status = status_of(comm->peers);
    if (status == ncclSuccess) *out = joined = comm.release();
    return status;
}

static ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = status_of(comm->peers);
    return ncclSuccess;
}

/* ---- types and operators ------------------------------------------------------------------------------------------ */

/* For values of one type: x += y and similar, and x *= scale. */
struct arithmetic {
    const char *name;
    size_t size;
    void (*reduce)(void *x, const void *y, size_t bytes, ncclRedOp_t op);
    void (*scale)(void *x, size_t bytes, double by);
};

template <typename T> static T sum(T x, T y) { return x + y; }
template <> int32_t sum(int32_t x, int32_t y) { return (int32_t)((uint32_t)x + (uint32_t)y); }
template <> int64_t sum(int64_t x, int64_t y) { return (int64_t)((uint64_t)x + (uint64_t)y); }

template <typename T> static void reduce(void *to, const void *from, size_t bytes, ncclRedOp_t op) {
    T *x = static_cast<T *>(to);
    const T *y = static_cast<const T *>(from);
    for (size_t i = 0; i < bytes / sizeof(T); i++)
        if (op == ncclMax)
            x[i] = x[i] < y[i] ? y[i] : x[i];
        else if (op == ncclMin)
            x[i] = y[i] < x[i] ? y[i] : x[i];
        else
            x[i] = sum<T>(x[i], y[i]);
}

template <typename T> static void scale(void *to, size_t bytes, double by) {
    T *x = static_cast<T *>(to);
    for (size_t i = 0; i < bytes / sizeof(T); i++) x[i] = (T)(x[i] * (T)by);
}

static const arithmetic *find(ncclDataType_t type) {
    static const arithmetic all[] = {
        {"u8", 1, reduce<uint8_t>, nullptr},       {"i32", 4, reduce<int32_t>, nullptr},
        {"i64", 8, reduce<int64_t>, nullptr},      {"f32", 4, reduce<float>, scale<float>},
        {"f64", 8, reduce<double>, scale<double>},
    };
    switch (type) {
    case ncclUint8: return &all[0];
    case ncclInt32: return &all[1];
    case ncclInt64: return &all[2];
    case ncclFloat32: return &all[3];
    case ncclFloat64: return &all[4];
    default: return nullptr;
    }
}

/* The operators that the program has made, by their number minus ncclNumOps. */
struct premultiplied {
    ncclDataType_t type;
    double by;
    bool lives;
};
static std::vector<premultiplied> made;

static const premultiplied *find_made(ncclRedOp_t op) {
    size_t i = (size_t)op - ncclNumOps;
    return op >= ncclNumOps && i < made.size() && made[i].lives ? &made[i] : nullptr;
}

static ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t *op, void *scalar, ncclDataType_t type,
                                             ncclScalarResidence_t where, ncclComm_t) {
    if (where != ncclScalarHostImmediate || (type != ncclFloat32 && type != ncclFloat64))
        return fail(ncclInvalidArgument, "ncclRedOpCreatePreMulSum: the host's scalars of f32 and f64 alone");
    double by = type == ncclFloat32 ? *static_cast<float *>(scalar) : *static_cast<double *>(scalar);
    size_t i = 0;
    while (i < made.size() && made[i].lives) i++;
    if (i == made.size()) made.emplace_back();
    made[i] = {type, by, true};
    *op = (ncclRedOp_t)(ncclNumOps + i);
    return ncclSuccess;
}

static ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t) {
    if (!find_made(op)) return fail(ncclInvalidArgument, "ncclRedOpDestroy: there is no such operator");
    made[(size_t)op - ncclNumOps].lives = false;
    return ncclSuccess;
}

/* ---- collectives -------------------------------------------------------------------------------------------------- */

static int depth; /* of groups; collectives called within a group are queued at once */

struct call {
    const char *name;
    const void *send;
    void *receive;
    size_t count; /* elements: NCCL's argument */
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;              /* -1: none */
    size_t sent, received; /* elements; sent 0: nothing */
};

/* The call as text, on which the ranks must agree. A factor may differ: each rank multiplies its own values. */
static std::string text_of(const call &c, bool captured) {
    const char *op = c.op == ncclMax ? ", max" : c.op == ncclMin ? ", min" : ", sum";
    bool reduces = !strcmp(c.name, "ncclAllReduce") || !strcmp(c.name, "ncclReduceScatter");
    std::string text = std::string(c.name) + "(" + std::to_string(c.count) + " " + find(c.type)->name;
    if (reduces) text += op;
    if (c.root >= 0) text += ", from " + std::to_string(c.root);
    return text + (captured ? ") in a graph" : ")");
}

static ncclResult_t check(const call &c, ncclComm_t comm, void *stream) {
    void *lane;
    std::string name = c.name;
    const premultiplied *own = find_made(c.op);
    if (!comm || comm != joined) return fail(ncclInvalidArgument, name + ": no such communicator");
    if (!find(c.type)) return fail(ncclInvalidArgument, name + ": no such type");
    if (c.op >= ncclNumOps && (!own || own->type != c.type))
        return fail(ncclInvalidArgument, name + ": no such operator for this type");
    if (c.root >= comm->world) return fail(ncclInvalidArgument, name + ": no such root");
    if (cld_cuda_lane_stream(&lane) != CLD_OK || stream != lane)
        return fail(ncclInvalidArgument, name + ": not on the lane");
    if (cld_cuda_capturing() && !comm->done.count(name))
        return fail(ncclInvalidUsage, name + " is captured in a graph, but has never run before");
    return status_of(comm->peers);
}

/* Reduces the parts of all ranks in the boxes, in the order of the ranks. */
static void reduce_boxes(const ncclComm *comm, const call &c, char *to, size_t bytes) {
    memcpy(to, comm->peers.box(0), bytes);
    for (int r = 1; r < comm->world; r++) find(c.type)->reduce(to, comm->peers.box(r), bytes, c.op);
}

static void run_all_reduce(ncclComm *comm, const call &c, const char *sent) {
    char *to = static_cast<char *>(c.receive);
    comm->peers.exchange(sent, c.count * find(c.type)->size,
                         [=](size_t at, size_t bytes) { reduce_boxes(comm, c, to + at, bytes); });
}

/* Rank after rank: all show the part that belongs to this rank. */
static void run_reduce_scatter(ncclComm *comm, const call &c, const char *sent) {
    size_t part = c.count * find(c.type)->size;
    for (int r = 0; r < comm->world; r++)
        comm->peers.exchange(sent + (size_t)r * part, part, [=](size_t at, size_t bytes) {
            if (r == comm->rank) reduce_boxes(comm, c, static_cast<char *>(c.receive) + at, bytes);
        });
}

static void run_all_gather(ncclComm *comm, const call &c, const char *sent) {
    size_t part = c.count * find(c.type)->size;
    comm->peers.exchange(sent, part, [=](size_t at, size_t bytes) {
        for (int r = 0; r < comm->world; r++)
            memcpy(static_cast<char *>(c.receive) + (size_t)r * part + at, comm->peers.box(r), bytes);
    });
}

static void run_broadcast(ncclComm *comm, const call &c, const char *sent) {
    comm->peers.exchange(comm->rank == c.root ? sent : nullptr, c.count * find(c.type)->size,
                         [=](size_t at, size_t bytes) {
                             if (comm->rank != c.root)
                                 memcpy(static_cast<char *>(c.receive) + at, comm->peers.box(c.root), bytes);
                         });
}

typedef void (*runner)(ncclComm *comm, const call &c, const char *sent);

/* Is part of the input the output of an earlier collective on the lane? */
static bool follows_another(const call &c) {
    struct range {
        const char *begin, *end;
    };
    static std::vector<range> received; /* since the lane was last empty */
    size_t size = find(c.type)->size;
    const char *sent = static_cast<const char *>(c.send), *to = static_cast<const char *>(c.receive);
    bool found = false;
    if (cld_host_lane_is_empty()) received.clear();
    for (const range &r : received) found = found || (sent < r.end && r.begin < sent + c.sent * size);
    received.push_back({to, to + c.received * size});
    return found;
}

/* The input is what is in memory now, or what the lane will have made of it. The output is invalid from now on until
 * the lane is joined. */
static ncclResult_t queue(const call &c, runner run, ncclComm_t comm, void *stream) {
    ncclResult_t status = check(c, comm, stream);
    if (status != ncclSuccess || c.count == 0) return status;
    const premultiplied *own = find_made(c.op);
    double by = own ? own->by : 1;
    size_t size = find(c.type)->size;
    bool writes = c.root != comm->rank, captured = cld_cuda_capturing(), late = follows_another(c);
    auto kept = std::make_shared<std::vector<char>>(c.sent * size);
    auto keep = [=]() {
        if (kept->empty()) return;
        memcpy(kept->data(), c.send, kept->size());
        if (by != 1) find(c.type)->scale(kept->data(), kept->size(), by);
    };
    cld_status queued = late ? CLD_OK : cld_host_enqueue({c.name, CLD_HOST_SILENT, NULL}, [=]() {
        keep();
        if (writes) memset(c.receive, 0xff, c.received * size);
    });
    if (queued == CLD_OK)
        queued = cld_host_enqueue_on_lane({c.name, CLD_HOST_LIBRARY, NULL}, [=]() {
            if (late) keep();
            if (comm->peers.agree(text_of(c, captured))) run(comm, c, kept->data());
            comm->done.insert(c.name);
            if (!comm->peers.problem.empty()) cld_host_report(comm->peers.problem);
        });
    return queued == CLD_OK ? ncclSuccess : fail(ncclSystemError, cld_error_message());
}

static ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type,
                                  ncclRedOp_t op, ncclComm_t comm, void *stream) {
    return queue({"ncclAllReduce", send, receive, count, type, op, -1, count, count}, run_all_reduce, comm,
                 stream);
}

static ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t received, ncclDataType_t type,
                                      ncclRedOp_t op, ncclComm_t comm, void *stream) {
    size_t sent = comm ? received * (size_t)comm->world : 0;
    return queue({"ncclReduceScatter", send, receive, received, type, op, -1, sent, received},
                 run_reduce_scatter, comm, stream);
}

static ncclResult_t ncclAllGather(const void *send, void *receive, size_t sent, ncclDataType_t type,
                                  ncclComm_t comm, void *stream) {
    size_t received = comm ? sent * (size_t)comm->world : 0;
    return queue({"ncclAllGather", send, receive, sent, type, ncclSum, -1, sent, received}, run_all_gather,
                 comm, stream);
}

static ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type,
                                  int root, ncclComm_t comm, void *stream) {
    size_t sent = comm && comm->rank == root ? count : 0;
    return queue({"ncclBroadcast", send, receive, count, type, ncclSum, root, sent, count}, run_broadcast,
                 comm, stream);
}

/* ---- sends and receives ------------------------------------------------------------------------------------------- */

struct message {
    bool is_sent;
    char *data;
    size_t bytes;
    int peer;
};
typedef std::vector<message> messages;

static messages of_group;                      /* those called since the outermost group began */
static ncclResult_t of_group_is = ncclSuccess; /* or what is wrong with one of them: then none is queued */

static std::string with_peer(const std::string &name, int peer) {
    return name + " with rank " + std::to_string(peer);
}

static ncclResult_t check_message(const call &c, int peer, ncclComm_t comm, void *stream) {
    ncclResult_t status = check(c, comm, stream);
    std::string name = c.name;
    if (status != ncclSuccess) return status;
    if (peer < 0 || peer >= comm->world) return fail(ncclInvalidArgument, name + ": no such peer");
    if (depth == 0) return fail(ncclInvalidUsage, name + ": outside of a group, it may wait for ever");
    if (cld_cuda_capturing() && !comm->done.count(with_peer(name, peer)))
        return fail(ncclInvalidUsage,
                    with_peer(name, peer) + " is captured in a graph, but has never run before");
    return ncclSuccess;
}

static ncclResult_t add(const call &c, int peer, ncclComm_t comm, void *stream) {
    ncclResult_t status = check_message(c, peer, comm, stream);
    if (status != ncclSuccess) return of_group_is = status;
    const void *data = c.send ? c.send : c.receive;
    of_group.push_back({c.send != nullptr, static_cast<char *>(const_cast<void *>(data)),
                        c.count * find(c.type)->size, peer});
    return ncclSuccess;
}

/* Bytes from each rank to each rank: what a rank says about its messages must match what the others say. */
struct tables {
    std::vector<uint64_t> sent, received; /* (world, world): from, to */
};

static bool tell_each(ncclComm *comm, const messages &own, tables &all) {
    size_t world = (size_t)comm->world, row = 2 * world * sizeof(uint64_t);
    std::vector<uint64_t> mine(2 * world);
    for (const message &m : own) mine[(m.is_sent ? 0 : world) + (size_t)m.peer] += m.bytes;
    all.sent.resize(world * world);
    all.received.resize(world * world);
    return comm->peers.exchange(reinterpret_cast<const char *>(mine.data()), row, [&](size_t, size_t) {
        for (size_t r = 0; r < world; r++) {
            const uint64_t *theirs = reinterpret_cast<const uint64_t *>(comm->peers.box((int)r));
            for (size_t other = 0; other < world; other++) {
                all.sent[r * world + other] = theirs[other];
                all.received[other * world + r] = theirs[world + other];
            }
        }
    });
}

static bool fit(ncclComm *comm, const tables &all) {
    size_t world = (size_t)comm->world;
    for (size_t i = 0; i < world * world; i++) {
        if (all.sent[i] == all.received[i]) continue;
        comm->peers.problem = "rank " + std::to_string(i / world) + " sends " + std::to_string(all.sent[i]) +
                              " bytes to rank " + std::to_string(i % world) + ", which receives " +
                              std::to_string(all.received[i]);
        return false;
    }
    return true;
}

/* The bytes that go from one rank to another; all meet for it. */
static void deliver(ncclComm *comm, const messages &own, const std::vector<std::vector<char>> &kept, int from,
                    int to, size_t bytes) {
    const char *shown = nullptr;
    char *place = nullptr;
    for (size_t i = 0; i < own.size(); i++) {
        if (own[i].is_sent && comm->rank == from && own[i].peer == to) shown = kept[i].data();
        if (!own[i].is_sent && comm->rank == to && own[i].peer == from) place = own[i].data;
    }
    comm->peers.exchange(shown, bytes, [=](size_t at, size_t part) {
        if (place) memcpy(place + at, comm->peers.box(from), part);
    });
}

static void run_messages(ncclComm *comm, const messages &own, const std::vector<std::vector<char>> &kept,
                         bool captured) {
    tables all;
    if (!comm->peers.agree(std::string("ncclSend and ncclRecv") + (captured ? " in a graph" : ""))) return;
    if (!tell_each(comm, own, all) || !fit(comm, all)) return;
    int world = comm->world;
    for (int i = 0; i < world * world; i++)
        if (all.sent[(size_t)i] > 0) deliver(comm, own, kept, i / world, i % world, all.sent[(size_t)i]);
}

static ncclResult_t queue_messages(ncclComm *comm) {
    messages own;
    own.swap(of_group);
    bool captured = cld_cuda_capturing(), late = false;
    auto kept = std::make_shared<std::vector<std::vector<char>>>(own.size());
    auto keep = [=]() {
        for (size_t i = 0; i < own.size(); i++)
            if (own[i].is_sent) (*kept)[i].assign(own[i].data, own[i].data + own[i].bytes);
    };
    for (const message &m : own) {
        call c = {"", nullptr, nullptr, m.bytes, ncclUint8, ncclSum, -1, 0, 0};
        if (m.is_sent) {
            c.send = m.data;
            c.sent = m.bytes;
        } else {
            c.receive = m.data;
            c.received = m.bytes;
        }
        late = follows_another(c) || late;
    }
    cld_status queued = late ? CLD_OK : cld_host_enqueue({"ncclSend", CLD_HOST_SILENT, NULL}, [=]() {
        keep();
        for (const message &m : own)
            if (!m.is_sent) memset(m.data, 0xff, m.bytes);
    });
    if (queued == CLD_OK)
        queued = cld_host_enqueue_on_lane({"ncclSend", CLD_HOST_LIBRARY, NULL}, [=]() {
            if (late) keep();
            run_messages(comm, own, *kept, captured);
            for (const message &m : own) {
                std::string name = m.is_sent ? "ncclSend" : "ncclRecv";
                comm->done.insert(name);
                comm->done.insert(with_peer(name, m.peer));
            }
            if (!comm->peers.problem.empty()) cld_host_report(comm->peers.problem);
        });
    return queued == CLD_OK ? ncclSuccess : fail(ncclSystemError, cld_error_message());
}

static ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             void *stream) {
    return add({"ncclSend", send, nullptr, count, type, ncclSum, -1, count, 0}, peer, comm, stream);
}

static ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             void *stream) {
    return add({"ncclRecv", nullptr, receive, count, type, ncclSum, -1, 0, count}, peer, comm, stream);
}

static ncclResult_t ncclGroupStart() {
    depth++;
    return ncclSuccess;
}

static ncclResult_t ncclGroupEnd() {
    if (depth == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth > 0) return ncclSuccess;
    ncclResult_t status = of_group_is;
    of_group_is = ncclSuccess;
    if (status != ncclSuccess) of_group.clear();
    return status != ncclSuccess || of_group.empty() ? status : queue_messages(joined);
}

/* ---- in place of opening a library ------------------------------------------------------------------- */

const cld_nccl *cld__nccl(void) {
    static const cld_nccl nccl = {
#define CLD_NAME(name, result, arguments) nccl##name,
        CLD_NCCL_FUNCTIONS(CLD_NAME)
#undef CLD_NAME
    };
    return &nccl;
}
