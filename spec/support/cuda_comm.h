/* Shared by the parts of cuda_comm.cu: this process's rank, checks, arrays with known values, a collective between a
 * fork and the join. */
#ifndef CLD_SPEC_CUDA_COMM_H
#define CLD_SPEC_CUDA_COMM_H

#include <atomic>
#include <functional>
#include <stdio.h>
#include <string.h>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "spec/support/plugin_host.h"

static const cld_backend *device;
static const cld_comm_ops *comm;
static const cld_lane_ops *lane;
static const cld_graph_ops *graphs;
static int rank, world;
static bool emulated;

/* What the processes share. */
static struct shared {
    std::atomic<int> checks, failures, ids, arrived;
    unsigned char id[CLD_COMM_ID_BYTES];
} * common;

/* ---- checks ---- */

static void check_at(bool holds, int line, const std::string &what) {
    common->checks++;
    if (holds) return;
    common->failures++;
    printf("line %d, rank %d of %d: %s\n", line, rank, world, what.c_str());
}
#define CHECK(condition) check_at(condition, __LINE__, #condition)
#define WORKS(call)      check_at((call) == CLD_OK, __LINE__, std::string(#call ": ") + message)
/* It must fail, and its message must contain the text. */
#define FAILS(call, text)                                                                                    \
    do {                                                                                                     \
        bool failed = (call) != CLD_OK;                                                                      \
        check_at(failed &&strstr(message, text), __LINE__,                                                   \
                 std::string(#call) + (failed ? ": " : " works, after: ") + message);                        \
    } while (0)

/* ---- arrays ---- */

template <typename T> static cld_dtype dtype_of() {
    if (std::is_same<T, uint8_t>::value) return CLD_U8;
    if (std::is_same<T, int32_t>::value) return CLD_I32;
    if (std::is_same<T, int64_t>::value) return CLD_I64;
    return std::is_same<T, float>::value ? CLD_F32 : CLD_F64;
}

template <typename T> static cld_array new_array(const std::vector<T> &values) {
    cld_array a = {};
    a.dtype = dtype_of<T>();
    a.ndim = 1;
    a.shape[0] = (int64_t)values.size();
    a.strides[0] = 1;
    WORKS(device->memory->allocate(&a.data, values.size() * sizeof(T) + 1));
    WORKS(device->memory->from_host(a.data, values.data(), values.size() * sizeof(T)));
    return a;
}

template <typename T> static std::vector<T> values_of(const cld_array &a) {
    std::vector<T> values((size_t)a.shape[0]);
    WORKS(device->memory->to_host(values.data(), a.data, values.size() * sizeof(T)));
    return values;
}

static void release(const cld_array &a) {
    device->memory->release(a.data, (size_t)a.shape[0] * cld_dtype_size(a.dtype) + 1);
}

/* Rank r's value at i: small whole numbers, so that every sum is exact. */
template <typename T> static T given(int r, size_t i) { return (T)((i * 3 + (size_t)r * 5) % 11); }

template <typename T> static std::vector<T> made(size_t n, const std::function<T(size_t)> &value) {
    std::vector<T> values(n);
    for (size_t i = 0; i < n; i++) values[i] = value(i);
    return values;
}
template <typename T> static std::vector<T> own(size_t n) {
    return made<T>(n, [](size_t i) { return given<T>(rank, i); });
}

static cld_status join_after(cld_status queued) { return queued == CLD_OK ? lane->join() : queued; }

/* Calls one collective between a fork and the join. */
static cld_status alone(const std::function<cld_status()> &collective) {
    CLD_TRY(lane->fork());
    return join_after(collective());
}

static cld_status all_reduce(const cld_array &a, cld_comm_kind kind, double scale = 1) {
    return comm->all_reduce(1, &a, kind, scale);
}

#endif
