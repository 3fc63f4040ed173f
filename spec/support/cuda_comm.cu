/* The collectives of kernels/cuda, among processes that this program forks. On the host the specs' own NCCL implements
 * them (kernels/cuda/host/nccl.cpp), on GPUs the real one, with one rank per GPU. spec/cuda_comm_spec.lua runs it on
 * the host, a part at a time: cuda_comm PART RANKS. Without arguments it runs everything that this machine has enough
 * GPUs for (make gpu-check). Prints what failed; the exit code is 1 if anything did. */
#include "spec/support/cuda_comm.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/launch.h"

/* ---- parts: what each computes ---- */

template <typename T> static T reduced(size_t i, cld_comm_kind kind) {
    T value = given<T>(0, i);
    for (int r = 1; r < world; r++) {
        T other = given<T>(r, i);
        if (kind == CLD_COMM_SUM) value = (T)(value + other);
        if (kind == CLD_COMM_MAX && other > value) value = other;
        if (kind == CLD_COMM_MIN && other < value) value = other;
    }
    return value;
}

/* As one piece, and as several. */
template <typename T> static void reduce_of() {
    for (cld_comm_kind kind : {CLD_COMM_SUM, CLD_COMM_MAX, CLD_COMM_MIN})
        for (size_t n : {(size_t)1, (size_t)1000, (size_t)300001}) {
            cld_array a = new_array(own<T>(n));
            WORKS(alone([=]() { return all_reduce(a, kind); }));
            CHECK(values_of<T>(a) == made<T>(n, [=](size_t i) { return reduced<T>(i, kind); }));
            release(a);
        }
}

static void reduce() {
    reduce_of<uint8_t>();
    reduce_of<int32_t>();
    reduce_of<int64_t>();
    reduce_of<float>();
    reduce_of<double>();
}

template <typename T> static void scale_of(double tolerance) {
    cld_array a = new_array(own<T>(100));
    WORKS(alone([=]() { return all_reduce(a, CLD_COMM_SUM, 0.3); }));
    std::vector<T> got = values_of<T>(a);
    for (size_t i = 0; i < got.size(); i++)
        CHECK(fabs((double)got[i] - 0.3 * (double)reduced<T>(i, CLD_COMM_SUM)) <= tolerance);
    release(a);
}

template <typename T> static void no_scale_of(cld_comm_kind kind) {
    cld_array a = new_array(own<T>(100));
    WORKS(alone([=]() { return all_reduce(a, kind, 0.3); }));
    CHECK(values_of<T>(a) == made<T>(100, [=](size_t i) { return reduced<T>(i, kind); }));
    release(a);
}

static void scale() {
    scale_of<float>(1e-5);
    scale_of<double>(1e-14);
    no_scale_of<uint8_t>(CLD_COMM_SUM);
    no_scale_of<int32_t>(CLD_COMM_SUM);
    no_scale_of<int64_t>(CLD_COMM_SUM);
    no_scale_of<float>(CLD_COMM_MAX);
    no_scale_of<double>(CLD_COMM_MIN);
}

/* Several arrays of several dtypes at once, one of them empty. */
static void lists() {
    cld_array list[] = {new_array(own<float>(10)), new_array(own<int64_t>(70000)), new_array(own<float>(0)),
                        new_array(own<double>(3)), new_array(own<float>(1000))};
    WORKS(alone([&]() { return comm->all_reduce(5, list, CLD_COMM_SUM, 2); }));
    CHECK(values_of<float>(list[0]) ==
          made<float>(10, [](size_t i) { return 2 * reduced<float>(i, CLD_COMM_SUM); }));
    CHECK(values_of<int64_t>(list[1]) ==
          made<int64_t>(70000, [](size_t i) { return reduced<int64_t>(i, CLD_COMM_SUM); }));
    CHECK(values_of<double>(list[3]) ==
          made<double>(3, [](size_t i) { return 2 * reduced<double>(i, CLD_COMM_SUM); }));
    CHECK(values_of<float>(list[4]) ==
          made<float>(1000, [](size_t i) { return 2 * reduced<float>(i, CLD_COMM_SUM); }));
    WORKS(alone([&]() { return comm->broadcast(5, list, world - 1); }));
    for (const cld_array &a : list) release(a);
}

template <typename T> static void move_of(size_t n) {
    size_t ranks = (size_t)world;
    cld_array in = new_array(own<T>(n)), out = new_array(std::vector<T>(n * ranks));
    WORKS(alone([=]() { return comm->all_gather(&out, &in); }));
    CHECK(values_of<T>(out) == made<T>(n * ranks, [=](size_t i) { return given<T>((int)(i / n), i % n); }));
    CHECK(values_of<T>(in) == own<T>(n));

    cld_array whole = new_array(own<T>(n * ranks)), part = new_array(std::vector<T>(n));
    WORKS(alone([=]() { return comm->reduce_scatter(&part, &whole); }));
    CHECK(values_of<T>(part) ==
          made<T>(n, [=](size_t i) { return reduced<T>((size_t)rank * n + i, CLD_COMM_SUM); }));
    CHECK(values_of<T>(whole) == own<T>(n * ranks));

    for (int from = 0; from < world; from++) {
        cld_array a = new_array(own<T>(n));
        WORKS(alone([=]() { return comm->broadcast(1, &a, from); }));
        CHECK(values_of<T>(a) == made<T>(n, [=](size_t i) { return given<T>(from, i); }));
        release(a);
    }
    for (const cld_array &a : {in, out, whole, part}) release(a);
}

static void move() {
    for (size_t n : {(size_t)3, (size_t)100001}) {
        move_of<uint8_t>(n);
        move_of<int32_t>(n);
        move_of<int64_t>(n);
        move_of<float>(n);
        move_of<double>(n);
    }
}

/* A part for each rank, including itself, from each rank. The number of bytes differs for every pair, and is 0 for the
 * last two. */
static size_t bytes_between(int from, int to) {
    bool is_cut = world > 2 && from != to && from + to == 2 * world - 3;
    return is_cut ? 0 : (size_t)(1000 * (from + 1) + to);
}

struct exchanged {
    std::vector<cld_array> out, in;
    std::vector<cld_comm_piece> sent, received;
};

static exchanged new_exchange() {
    exchanged e;
    for (int r = 0; r < world; r++) {
        e.out.push_back(new_array(made<uint8_t>(bytes_between(rank, r), [=](size_t i) {
            return (uint8_t)(i * 7 + (size_t)(rank * world + r));
        })));
        e.in.push_back(new_array(std::vector<uint8_t>(bytes_between(r, rank))));
        if (bytes_between(rank, r) == 0) continue;
        e.sent.push_back({r, e.out.back().data, e.out.back().shape[0]});
        e.received.push_back({r, e.in.back().data, e.in.back().shape[0]});
    }
    return e;
}

static cld_status exchange(const exchanged &e) {
    return comm->exchange((int)e.sent.size(), e.sent.data(), (int)e.received.size(), e.received.data());
}

static void check_exchanged(const exchanged &e) {
    for (int r = 0; r < world; r++)
        CHECK(values_of<uint8_t>(e.in[(size_t)r]) == made<uint8_t>(bytes_between(r, rank), [=](size_t i) {
                  return (uint8_t)(i * 7 + (size_t)(r * world + rank));
              }));
}

static void release(const exchanged &e) {
    for (const cld_array &a : e.out) release(a);
    for (const cld_array &a : e.in) release(a);
}

static void neighbours() {
    void *graph;
    exchanged once = new_exchange(), captured = new_exchange();
    WORKS(alone([&]() { return exchange(once); }));
    check_exchanged(once);
    WORKS(graphs->begin());
    WORKS(alone([&]() { return exchange(captured); }));
    WORKS(graphs->end(&graph));
    WORKS(graphs->replay(graph));
    check_exchanged(captured);
    graphs->free(graph);
    release(once);
    release(captured);
}

/* Sums that depend on their order must have the same bits on all ranks and each time; on the host, the order is that of
 * the ranks. */
static void bits() {
    const size_t n = 5000;
    auto value = [](int r, size_t i) { return (float)sin((double)i + 17 * r) * (r % 2 ? 1e6f : 1.0f); };
    std::vector<float> before[2];
    for (std::vector<float> &got : before) {
        cld_array a = new_array(made<float>(n, [=](size_t i) { return value(rank, i); }));
        cld_array of_all = new_array(std::vector<float>(n * (size_t)world));
        WORKS(alone([=]() { return all_reduce(a, CLD_COMM_SUM); }));
        WORKS(alone([=]() { return comm->all_gather(&of_all, &a); }));
        got = values_of<float>(a);
        std::vector<float> theirs = values_of<float>(of_all);
        for (int r = 0; r < world; r++)
            CHECK(memcmp(&theirs[(size_t)r * n], got.data(), n * sizeof(float)) == 0);
        release(a);
        release(of_all);
    }
    CHECK(before[0] == before[1]);
    if (emulated)
        CHECK(before[0] == made<float>(n, [=](size_t i) {
                  float sum = value(0, i);
                  for (int r = 1; r < world; r++) sum += value(r, i);
                  return sum;
              }));
}

/* ---- the lane ---- */

static __global__ void twice_plus_one(float *x, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = 2 * x[i] + 1;
}

static cld_status twice_plus_one(const cld_array &a) {
    int n = (int)a.shape[0];
    return CLD_LAUNCH(twice_plus_one, (n + 127) / 128, 128, 0, (float *)a.data, n);
}

static float sum_of_twice_plus_one(size_t i) { return 2 * reduced<float>(i, CLD_COMM_SUM) + (float)world; }

static void order() {
    const size_t n = 1000;
    cld_array a = new_array(own<float>(n)), other = new_array(own<float>(n));
    cld_array gathered = new_array(std::vector<float>(n * (size_t)world));
    WORKS(twice_plus_one(a));
    WORKS(lane->fork());
    WORKS(all_reduce(a, CLD_COMM_SUM));
    WORKS(comm->all_gather(&gathered, &a)); /* after it on the lane: needs no fork */
    WORKS(twice_plus_one(other));
    if (emulated) CHECK(isnan(values_of<float>(a)[0])); /* the emulator runs it as late as possible */
    WORKS(lane->join());
    CHECK(values_of<float>(gathered) ==
          made<float>(n * (size_t)world, [=](size_t i) { return sum_of_twice_plus_one(i % n); }));
    WORKS(twice_plus_one(a));
    CHECK(values_of<float>(a) == made<float>(n, [](size_t i) { return 2 * sum_of_twice_plus_one(i) + 1; }));
    CHECK(values_of<float>(other) == made<float>(n, [](size_t i) { return 2 * given<float>(rank, i) + 1; }));
    WORKS(lane->join()); /* with nothing on it */
    WORKS(comm->check());
    for (const cld_array &x : {a, other, gathered}) release(x);
}

/* ---- graphs ---- */

static void capture() {
    const size_t n = 1000;
    void *graph;
    cld_array input = new_array(own<float>(n)), x = new_array(own<float>(n)),
              other = new_array(own<float>(n));
    WORKS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); })); /* runs it once first */
    WORKS(graphs->begin());
    WORKS(cld_cuda_copy(x.data, input.data, n * sizeof(float)));
    WORKS(twice_plus_one(x));
    WORKS(lane->fork());
    WORKS(all_reduce(x, CLD_COMM_SUM, 0.5));
    WORKS(twice_plus_one(other));
    WORKS(lane->join());
    WORKS(twice_plus_one(x));
    WORKS(graphs->end(&graph));
    CHECK(values_of<float>(other) == own<float>(n)); /* nothing was run */
    for (int step = 1; step <= 3; step++) {
        std::vector<float> now =
            made<float>(n, [=](size_t i) { return given<float>(rank, i + (size_t)step); });
        WORKS(device->memory->from_host(input.data, now.data(), n * sizeof(float)));
        WORKS(graphs->replay(graph));
        CHECK(values_of<float>(x) ==
              made<float>(n, [=](size_t i) { return sum_of_twice_plus_one(i + (size_t)step) + 1; }));
        WORKS(alone([=]() { return all_reduce(x, CLD_COMM_MAX); })); /* another one comes in between */
    }
    CHECK(values_of<float>(other) == made<float>(n, [](size_t i) { return 8 * given<float>(rank, i) + 7; }));
    graphs->free(graph);
    for (const cld_array &a : {input, x, other}) release(a);
}

static void unjoined() {
    void *graph;
    cld_array x = new_array(own<float>(10));
    WORKS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }));
    WORKS(graphs->begin());
    WORKS(lane->fork());
    WORKS(all_reduce(x, CLD_COMM_SUM));
    FAILS(graphs->end(&graph), "must be joined before its end");
    CHECK(graph == NULL);
    CHECK(values_of<float>(x) == made<float>(10, [](size_t i) { return reduced<float>(i, CLD_COMM_SUM); }));
    WORKS(alone([=]() { return all_reduce(x, CLD_COMM_MAX); })); /* everything works again */

    WORKS(lane->fork());
    FAILS(graphs->begin(), "a graph cannot be captured while a collective is under way");
    FAILS(graphs->replay(NULL), "a graph cannot be replayed while a collective is under way");
    WORKS(lane->join());
    WORKS(graphs->begin());
    FAILS(all_reduce(x, CLD_COMM_SUM), "all_reduce: while a graph is being captured, fork the lane first");
    WORKS(graphs->end(&graph));
    graphs->free(graph);
    release(x);
}

/* ---- mistakes: only on the host, because NCCL hangs ---- */

static cld_array shared_float(size_t n) { return new_array(own<float>(n)); }

/* Rank 0 does one thing, and the others another. Nothing works afterwards. */
static void differ(const char *said, const std::function<cld_status()> &first,
                   const std::function<cld_status()> &others) {
    FAILS(alone(rank == 0 ? first : others), said);
    FAILS(comm->check(), said);
    cld_array x = shared_float(1);
    FAILS(all_reduce(x, CLD_COMM_SUM), said);
}

static void other_collective() {
    cld_array x = shared_float(12), y = shared_float(12 * (size_t)world);
    differ(
        "rank 0 calls ncclAllReduce(12 f32, sum), and rank 1 ncclAllGather(12 f32)",
        [=]() { return all_reduce(x, CLD_COMM_SUM); }, [=]() { return comm->all_gather(&y, &x); });
}

static void other_count() {
    cld_array x = shared_float(12), y = shared_float(13);
    differ(
        "rank 0 calls ncclAllReduce(12 f32, sum), and rank 1 ncclAllReduce(13 f32, sum)",
        [=]() { return all_reduce(x, CLD_COMM_SUM); }, [=]() { return all_reduce(y, CLD_COMM_SUM); });
}

static void other_dtype() {
    cld_array x = shared_float(12), y = new_array(own<int32_t>(12));
    differ(
        "rank 0 calls ncclAllReduce(12 f32, sum), and rank 1 ncclAllReduce(12 i32, sum)",
        [=]() { return all_reduce(x, CLD_COMM_SUM); }, [=]() { return all_reduce(y, CLD_COMM_SUM); });
}

static void other_kind() {
    cld_array x = shared_float(12);
    differ(
        "rank 0 calls ncclAllReduce(12 f32, max), and rank 1 ncclAllReduce(12 f32, sum)",
        [=]() { return all_reduce(x, CLD_COMM_MAX); }, [=]() { return all_reduce(x, CLD_COMM_SUM); });
}

static void other_root() {
    cld_array x = shared_float(12);
    differ(
        "rank 0 calls ncclBroadcast(12 f32, from 1), and rank 1 ncclBroadcast(12 f32, from 0)",
        [=]() { return comm->broadcast(1, &x, 1); }, [=]() { return comm->broadcast(1, &x, 0); });
}

static void other_order() {
    cld_array x = shared_float(12), y = shared_float(5);
    auto both = [=](const cld_array &a, const cld_array &b) {
        return [=]() {
            CLD_TRY(all_reduce(a, CLD_COMM_SUM));
            return all_reduce(b, CLD_COMM_SUM);
        };
    };
    differ("rank 0 calls ncclAllReduce(12 f32, sum), and rank 1 ncclAllReduce(5 f32, sum)", both(x, y),
           both(y, x));
}

static void other_bytes() {
    cld_array x = shared_float(12);
    int next = (rank + 1) % world;
    cld_comm_piece sent = {next, x.data, 8}, received = {(rank + world - 1) % world, x.data, 8};
    if (rank == 1) received.bytes = 4;
    auto call = [=]() { return comm->exchange(1, &sent, 1, &received); };
    differ("rank 0 sends 8 bytes to rank 1, which receives 4", call, call);
}

static void other_exchange() {
    cld_array x = shared_float(12);
    cld_comm_piece own = {rank, x.data, 8}, to = {rank, (char *)x.data + 16, 8};
    differ(
        "rank 0 calls ncclSend and ncclRecv, and rank 1 ncclAllReduce(12 f32, sum)",
        [=]() { return comm->exchange(1, &own, 1, &to); }, [=]() { return all_reduce(x, CLD_COMM_SUM); });
}

static void record(void **graph, const cld_array &x) {
    WORKS(graphs->begin());
    WORKS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }));
    WORKS(graphs->end(graph));
}

static void other_graph() {
    void *graph;
    cld_array x = shared_float(12);
    WORKS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }));
    record(&graph, x);
    if (rank == 0)
        FAILS(graphs->replay(graph), "rank 0 calls ncclAllReduce(12 f32, sum) in a graph, and rank 1 "
                                     "ncclAllReduce(12 f32, sum)");
    else
        FAILS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }), "in a graph, and rank 1 ncclAllReduce");
    graphs->free(graph);
}

static void never_run() {
    void *graph;
    cld_array x = shared_float(12);
    WORKS(alone([=]() { return comm->broadcast(1, &x, 0); }));
    WORKS(graphs->begin());
    FAILS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }),
          "ncclAllReduce is captured in a graph, but has never run before");
    cld_cuda_close_lane();
    WORKS(graphs->end(&graph));
    graphs->free(graph);
}

/* Each with itself, then, captured, also with the next one. */
static void new_neighbour() {
    void *graph;
    cld_array x = shared_float(12);
    int next = (rank + 1) % world, before = (rank + world - 1) % world;
    char *data = (char *)x.data;
    cld_comm_piece sent[] = {{rank, data, 8}, {next, data, 8}};
    cld_comm_piece received[] = {{rank, data + 16, 8}, {before, data + 32, 8}};
    WORKS(alone([&]() { return comm->exchange(1, sent, 1, received); }));
    WORKS(graphs->begin());
    WORKS(alone([&]() { return comm->exchange(1, sent, 1, received); }));
    FAILS(alone([&]() { return comm->exchange(2, sent, 2, received); }),
          "is captured in a graph, but has never run before");
    CHECK(strstr(message, "ncclSend with rank "));
    cld_cuda_close_lane();
    WORKS(graphs->end(&graph));
    WORKS(graphs->replay(graph)); /* nothing of the second was queued */
    graphs->free(graph);
    WORKS(alone([&]() { return comm->exchange(2, sent, 2, received); }));
}

/* The last rank ends before a collective that the others have begun, or does not reach it. */
static void ended() {
    cld_array x = shared_float(12);
    if (rank == world - 1) _exit(0);
    FAILS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }), "ncclAllReduce(12 f32, sum): rank ");
    CHECK(strstr(message, " has ended"));
    FAILS(comm->check(), "remote process exited");
}

static void stalled() {
    cld_array x = shared_float(12);
    setenv("CLD_HOST_PEER_SECONDS", "0.5", 1);
    if (rank != world - 1) FAILS(alone([=]() { return all_reduce(x, CLD_COMM_SUM); }), "does not come");
    common->arrived++;
    while (common->arrived < world) usleep(1000);
}

/* ---- joining the job ---- */

static cld_status join_job() {
    if (rank == 0) {
        CLD_TRY(comm->make_id(common->id));
        common->ids = 1;
    }
    for (int waited = 0; !common->ids; waited++) {
        if (waited == 30000) return fail(CLD_BACKEND, "rank 0 makes no id");
        usleep(1000);
    }
    return comm->start(common->id, rank, world);
}

static bool is_memory_left() {
    return access((std::string("/dev/shm") + (const char *)common->id).c_str(), F_OK) == 0;
}

/* These two parts join the job themselves. */
static void start() {
    cld_array x = shared_float(2);
    FAILS(all_reduce(x, CLD_COMM_SUM), "all_reduce: cuda:");
    CHECK(strstr(message, "has not joined the job"));
    WORKS(comm->check());
    WORKS(join_job());
    FAILS(comm->start(common->id, rank, world), "has already joined the job");
    CHECK(strncmp(comm->library(), "NCCL 2.", 7) == 0);
    if (emulated) CHECK(!is_memory_left());
    release(x);
}

static void twice() {
    setenv("CLD_HOST_CHIP", "7", 1);
    FAILS(join_job(), "ranks 0 and 1 have the same GPU");
    CHECK(strstr(message, "--gpus-per-task 1"));
    if (emulated) CHECK(!is_memory_left());
}

/* ---- processes ---- */

static const struct part {
    const char *name;
    void (*run)();
    bool joins;     /* the part itself joins */
    bool on_host;   /* only on the host */
    bool same_chip; /* the same for all */
} parts[] = {
    {"start", start, true, false, false},
    {"twice", twice, true, false, true},
    {"reduce", reduce, false, false, false},
    {"scale", scale, false, false, false},
    {"lists", lists, false, false, false},
    {"move", move, false, false, false},
    {"neighbours", neighbours, false, false, false},
    {"bits", bits, false, false, false},
    {"order", order, false, false, false},
    {"capture", capture, false, false, false},
    {"unjoined", unjoined, false, false, false},
    {"other_collective", other_collective, false, true, false},
    {"other_count", other_count, false, true, false},
    {"other_dtype", other_dtype, false, true, false},
    {"other_kind", other_kind, false, true, false},
    {"other_root", other_root, false, true, false},
    {"other_order", other_order, false, true, false},
    {"other_bytes", other_bytes, false, true, false},
    {"other_exchange", other_exchange, false, true, false},
    {"other_graph", other_graph, false, true, false},
    {"never_run", never_run, false, true, false},
    {"new_neighbour", new_neighbour, false, true, false},
    {"ended", ended, false, true, false},
    {"stalled", stalled, false, true, false},
};

static int be_rank(const part &p) {
    const cld_plugin *plugin = cld_plugin_entry(&plugin_host);
    emulated = plugin->emulated;
    device = plugin->open(emulated || p.same_chip ? 0 : rank);
    if (!device) return printf("rank %d: %s\n", rank, message), 1;
    comm = device->comm;
    lane = device->lane;
    graphs = device->graph;
    if (!p.joins && join_job() != CLD_OK) return printf("rank %d: %s\n", rank, message), 1;
    p.run();
    if (p.joins || !p.on_host) WORKS(comm->check());
    return 0;
}

/* True if all of its processes ran to their end. */
static bool run_part(const part &p, int ranks) {
    bool ended_well = true;
    world = ranks;
    common->ids = common->arrived = 0;
    fflush(stdout);
    for (rank = 0; rank < ranks; rank++)
        if (fork() == 0) {
            int status = be_rank(p);
            fflush(stdout);
            _exit(status);
        }
    for (int status; ranks > 0; ranks--) ended_well = wait(&status) > 0 && status == 0 && ended_well;
    if (!ended_well) printf("%s: a rank of %d has failed\n", p.name, world);
    return ended_well;
}

enum { EMULATED = 100, NO_NCCL };

/* This process itself opens no device, because its children could not use it then. */
static int count_devices() {
    fflush(stdout);
    if (fork() == 0) {
        const cld_plugin *plugin = cld_plugin_entry(&plugin_host);
        int devices = 0;
        if (plugin->count(&devices) != CLD_OK) printf("%s\n", message);
        bool is_missing = strstr(cld_cuda_comm.library(), "not here");
        if (is_missing) printf("nothing is checked: %s\n", message);
        fflush(stdout);
        _exit(plugin->emulated ? EMULATED : is_missing ? NO_NCCL : devices < 8 ? devices : 8);
    }
    int status;
    return wait(&status) > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

int main(int, char **arguments) {
    common = (shared *)mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (common == MAP_FAILED) return 1;
    int devices = count_devices(), most = devices == EMULATED ? 3 : devices;
    if (devices == NO_NCCL) return printf("0 checks, 0 failures\n"), 0;
    bool ran = false, well = true;
    for (const part &p : parts) {
        if (arguments[1] && strcmp(arguments[1], p.name) != 0) continue;
        if (p.on_host && devices != EMULATED) continue;
        int least = p.on_host || p.same_chip ? 2 : 1;
        for (int ranks = arguments[1] ? atoi(arguments[2]) : least; ranks <= (p.same_chip ? 2 : most);
             ranks++) {
            ran = true;
            well = run_part(p, ranks) && well;
            if (arguments[1]) break;
        }
    }
    if (!ran) printf("there is no such part, or no device\n");
    printf("%d checks, %d failures\n", (int)common->checks, (int)common->failures);
    return common->failures > 0 || !ran || !well;
}
