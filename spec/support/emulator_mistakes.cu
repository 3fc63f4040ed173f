/* What the CUDA emulator does about mistakes: a missing barrier gives another result in the other order of threads,
 * uninitialized memory is NaN, a launch that CUDA would refuse is refused, and what would hang or destroy ends the
 * process with a message. Prints a line for each failed check; if none fails the exit code is 0. */
#include <sys/wait.h>
#include <unistd.h>

#include "spec/support/emulator_test.h"

/* Reads what another thread writes, without a barrier in between. */
__global__ void miss_barrier(int *out, int *between) {
    between[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = between[threadIdx.x ^ 33];
}
__global__ void miss_syncwarp(int *out) {
    CLD_SHARED(int, s, [32]);
    s[threadIdx.x] = 1;
    out[threadIdx.x] = s[31 - threadIdx.x];
}
__global__ void record_block(int *out, int *count) {
    if (threadIdx.x == 0) out[(*count)++] = (int)blockIdx.x;
}

static cld_status test_orders() {
    int *out[2], *between = memory<int>(64), *blocks[2], *count = memory<int>(2), *warp[2];
    for (int reverse = 0; reverse < 2; reverse++) {
        out[reverse] = memory<int>(64), warp[reverse] = memory<int>(32), blocks[reverse] = memory<int>(3);
        bool before = cld_host_order(reverse);
        for (int i = 0; i < 64; i++) between[i] = -1;
        CLD_TRY(CLD_LAUNCH(miss_barrier, 1, 64, 0, out[reverse], between));
        CLD_TRY(CLD_LAUNCH(miss_syncwarp, 1, 32, 0, warp[reverse]));
        CLD_TRY(CLD_LAUNCH(record_block, 3, 64, 0, blocks[reverse], count + reverse));
        expect(cld_host_order(before) == (bool)reverse, "cld_host_order does not return what it was");
    }
    expect(memcmp(out[0], out[1], 64 * sizeof(int)) != 0, "a missing barrier goes unnoticed");
    expect(out[0][0] == -1 && out[1][0] == 33, "a missing barrier: %d, %d", out[0][0], out[1][0]);
    expect(warp[0][0] == -1 && warp[1][0] == 1, "a missing __syncwarp: %d, %d", warp[0][0], warp[1][0]);
    for (int i = 0; i < 3; i++)
        expect(blocks[0][i] == i && blocks[1][i] == 2 - i, "block %d: %d, %d", i, blocks[0][i], blocks[1][i]);
    return CLD_OK;
}

/* Each block must find shared memory uninitialized, not as another block left it. */
__global__ void read_unwritten(unsigned *out) {
    CLD_SHARED(unsigned, s, [64]);
    CLD_DYNAMIC_SHARED(unsigned, d);
    if (s[threadIdx.x] != ~0u || d[threadIdx.x] != ~0u) atomicAdd(out, 1u);
    s[threadIdx.x] = d[threadIdx.x] = 5;
}
/* A lane that is missing, or not in the mask, has no value to give. */
__global__ void read_absent(float *out) {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, (int)threadIdx.x + 1);
}

static cld_status test_undefined() {
    unsigned *out = memory<unsigned>(1);
    float *absent = memory<float>(20);
    CLD_TRY(CLD_LAUNCH(read_unwritten, 3, 64, 64 * sizeof(unsigned), out));
    CLD_TRY(CLD_LAUNCH(read_absent, 1, 20, 0, absent));
    expect(*out == 0, "shared memory: %u words keep what a block left", *out);
    expect(absent[18] == 1 && isnan(absent[19]), "an absent lane gives %g", (double)absent[19]);
    return CLD_OK;
}

__global__ void nothing() {}

static void expect_refused(cld_status status, const char *what) {
    expect(status == CLD_BACKEND && strstr(cld_error_message(), "nothing: invalid launch"), "%s: status %d",
           what, status);
}

static void test_refused() {
    expect(CLD_LAUNCH(nothing, 1, 1024, 48 << 10) == CLD_OK, "the largest launch is refused");
    expect_refused(CLD_LAUNCH(nothing, 0, 32, 0), "no blocks");
    expect_refused(CLD_LAUNCH(nothing, -1, 32, 0), "negative blocks");
    expect_refused(CLD_LAUNCH(nothing, (int64_t)1 << 32, 32, 0), "2^32 blocks");
    expect_refused(CLD_LAUNCH(nothing, dim3(1, 65536), 32, 0), "65536 rows of blocks");
    expect_refused(CLD_LAUNCH(nothing, 1, 0, 0), "no threads");
    expect_refused(CLD_LAUNCH(nothing, 1, 1025, 0), "1025 threads");
    expect_refused(CLD_LAUNCH(nothing, 1, dim3(32, 33), 0), "32 by 33 threads");
    expect_refused(CLD_LAUNCH(nothing, 1, 32, (48 << 10) + 1), "too much shared memory");
}

/* These end the process. */
__global__ void diverge(int *out) {
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
__global__ void wait_apart(int *out) {
    if (threadIdx.x < 8)
        __syncthreads();
    else
        out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void vote_apart(int *out) {
    if (threadIdx.x % 2)
        out[threadIdx.x] = __any_sync(0xffffffffu, 1);
    else
        out[threadIdx.x] = __all_sync(0xffffffffu, 1);
}
__global__ void exclude_itself(int *out) { out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0); }
__global__ void use_too_much(int *out) {
    CLD_SHARED(int, s, [8 << 10]);
    CLD_DYNAMIC_SHARED(int, d);
    s[threadIdx.x] = d[threadIdx.x] = 1;
    out[threadIdx.x] = s[threadIdx.x];
}
__global__ void write_behind(int *out) {
    CLD_DYNAMIC_SHARED(int, d);
    d[threadIdx.x] = out[threadIdx.x];
}

template <typename Launch>
static void expect_abort(const char *what, Launch launch, const char *first, const char *second) {
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) return expect(false, "%s: no pipe", what);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        launch();
        _exit(0);
    }
    close(ends[1]);
    char text[4096] = "";
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) length += (size_t)n;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s does not abort: %x", what, status);
    expect(strstr(text, first) && strstr(text, second), "%s says: %s", what, text);
}

static void test_aborts() {
    int *out = memory<int>(64);
    expect_abort(
        "a divergent barrier", [=] { (void)CLD_LAUNCH(diverge, 2, 64, 0, out); }, "diverge: block (",
        "threads (40, 0, 0) to (63, 0, 0): wait in __syncthreads, ");
    expect_abort(
        "a barrier against a shuffle", [=] { (void)CLD_LAUNCH(wait_apart, 1, 32, 0, out); },
        "threads (0, 0, 0) to (7, 0, 0): wait in __syncthreads, ",
        "threads (8, 0, 0) to (31, 0, 0): wait in __shfl_sync of mask 0xffffffff, ");
    expect_abort(
        "different operations of a warp", [=] { (void)CLD_LAUNCH(vote_apart, 1, 32, 0, out); },
        "vote_apart: ", "threads (31, 0, 0) to (31, 0, 0): wait in __any_sync");
    expect_abort(
        "a lane outside of its mask", [=] { (void)CLD_LAUNCH(exclude_itself, 1, 32, 0, out); },
        "exclude_itself: ", "does not have");
    expect_abort(
        "48 KB in two parts", [=] { (void)CLD_LAUNCH(use_too_much, 1, 32, 17 << 10, out); },
        "use_too_much: ", "more than 48 KB");
#ifndef __SANITIZE_ADDRESS__ /* the sanitizer stops earlier and says more */
    expect_abort(
        "a write behind dynamic shared memory", [=] { (void)CLD_LAUNCH(write_behind, 1, 33, 128, out); },
        "write_behind: ", "behind the dynamic shared memory");
#endif
}

static cld_status test(void) {
    for (int reverse = 0; reverse < 2; reverse++) {
        cld_host_order(reverse);
        CLD_TRY(test_undefined());
        test_aborts();
    }
    test_refused();
    return test_orders();
}
