/* When a piece of work begins, the pages of all blocks are protected. Its first read and its first write of each page
 * is a fault, which counts the block's bytes in that page and lets the work continue. So a byte counts once for each
 * piece of work, as if a cache held what is read again, and a page that is only touched here and there counts as a
 * whole. Only x86-64 tells whether a fault was a write; elsewhere each counts as a read. */
#include "kernels/cuda/host/traffic.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static const std::map<char *, size_t> *touched; /* NULL: nothing is counted */
static cld_host_traffic counted;

bool cld_host_counts_traffic(void) {
    static const char *const wanted = getenv("CLD_HOST_TRAFFIC");
    return wanted && *wanted;
}

size_t cld_host_page(void) {
    static const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    return bytes;
}

static void protect_all(int protection) {
    for (const auto &block : *touched)
        if (block.second > 0) mprotect(block.first, block.second, protection);
}

static bool is_write(const void *context) {
#if defined(__x86_64__)
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    return (void)context, false;
#endif
}

/* A fault elsewhere is a real one: it happens again, and ends the process. */
static void on_fault(int signal_number, siginfo_t *info, void *context) {
    char *page = (char *)((uintptr_t)info->si_addr / cld_host_page() * cld_host_page());
    auto next = touched ? touched->upper_bound(page) : std::map<char *, size_t>::const_iterator();
    if (!touched || next == touched->begin()) {
        signal(signal_number, SIG_DFL);
        return;
    }
    --next;
    size_t offset = (size_t)(page - next->first);
    if (offset >= next->second) {
        signal(signal_number, SIG_DFL);
        return;
    }
    size_t rest = next->second - offset, bytes = rest < cld_host_page() ? rest : cld_host_page();
    bool write = is_write(context);
    (write ? counted.written : counted.read) += bytes;
#if defined(__x86_64__)
    mprotect(page, cld_host_page(), write ? PROT_READ | PROT_WRITE : PROT_READ);
#else
    mprotect(page, cld_host_page(), PROT_READ | PROT_WRITE);
#endif
}

/* The handler runs on a stack of its own, because the threads of a block have small ones. */
static void listen() {
    static char stack[64 << 10];
    stack_t own = {};
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack(&own, NULL);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
}

void cld_host_traffic_begin(const std::map<char *, size_t> *blocks) {
    counted = {0, 0};
    touched = blocks;
    listen();
    protect_all(PROT_NONE);
}

cld_host_traffic cld_host_traffic_end(void) {
    protect_all(PROT_READ | PROT_WRITE);
    signal(SIGSEGV, SIG_DFL);
    touched = NULL;
    return counted;
}
