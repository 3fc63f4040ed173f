/* The only C++ file of the CPU backend, because oneDNN's exceptions can only be caught in C++. */
#include "kernels/cpu/onednn.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

/* The most that one call may need besides the tensors: its compiled code, and the blocks that a product packs. */
static constexpr size_t generous = size_t(16) << 20;

/* An exception in one of oneDNN's own threads cannot be caught: it ends the process, and last_line says why. */
static std::terminate_handler terminate_before;

static void last_line() {
    static const char line[] = "cldlua: out of memory in oneDNN\n";
    try {
        if (std::current_exception()) throw;
    } catch (const std::bad_alloc &) {
        if (write(STDERR_FILENO, line, sizeof line - 1)) _exit(EXIT_FAILURE);
    } catch (...) {
    }
    terminate_before();
}

/* The C library loads its unwinder when an exception first passes through it, and ends the process if there is no
 * memory for that. backtrace() loads it in advance. */
static bool prepare() {
    void *frame;
    terminate_before = std::set_terminate(last_line);
    return backtrace(&frame, 1) > 0;
}

static bool is_limited(int resource) {
    rlimit limit;
    return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

/* Whether the system ever refuses memory: under `ulimit -v` or -d, or if it does not overcommit. Otherwise the check
 * before each call is left out; it would take three times as long as a small product. */
static bool is_refused() {
    int overcommit = 0;
    FILE *f = fopen("/proc/sys/vm/overcommit_memory", "re");
    if (f && fscanf(f, "%d", &overcommit) != 1) overcommit = 0;
    if (f) fclose(f);
    return overcommit == 2 || is_limited(RLIMIT_AS) || is_limited(RLIMIT_DATA);
}

static cld_status check_room(const char *doing) {
    static const bool refused = is_refused();
    if (!refused) return CLD_OK;
    void *room = mmap(nullptr, generous, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return cld_fail(CLD_NOMEM, "%s: out of memory: oneDNN may need %zu MiB, and less is left", doing,
                        generous >> 20);
    munmap(room, generous);
    return CLD_OK;
}

cld_status cld_onednn_fail(cld_status status, const char *doing) {
    if (status == CLD_OK) return CLD_OK;
    return cld_fail(status, "%s: %s", doing,
                    status == CLD_NOMEM ? "out of memory in oneDNN" : "oneDNN failed");
}

template <typename Call> static cld_status guarded(Call call, const char *doing) {
    static const bool prepared = prepare();
    (void)prepared;
    cld_status status = check_room(doing);
    if (status != CLD_OK) return status;
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return cld_onednn_fail(CLD_NOMEM, doing);
    } catch (const std::exception &error) {
        return cld_fail(CLD_BACKEND, "%s: oneDNN failed: %s", doing, error.what());
    } catch (...) {
        return cld_onednn_fail(CLD_BACKEND, doing);
    }
}

cld_status cld_onednn_call(cld_status (*call)(void *context), void *context, const char *doing) {
    return guarded([=] { return call(context); }, doing);
}

cld_status cld_onednn_check(dnnl_status_t status, const char *doing) {
    if (status == dnnl_success) return CLD_OK;
    if (status == dnnl_out_of_memory) return cld_onednn_fail(CLD_NOMEM, doing);
    return cld_fail(CLD_BACKEND, "%s: oneDNN failed with status %d", doing, int(status));
}

cld_status cld_sgemm(char transposed_a, char transposed_b, int64_t m, int64_t n, int64_t k, float alpha,
                     const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                     int64_t ldc) {
    static const char doing[] = "a matrix product";
    return guarded(
        [=] {
            return cld_onednn_check(
                dnnl_sgemm(transposed_a, transposed_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc), doing);
        },
        doing);
}
