/* Switching stacks takes a dozen instructions on x86-64: push what a called function must preserve, exchange the stack
 * pointer, pop. Elsewhere ucontext does it, with two system calls per switch.
 *
 * Hundreds of stacks are touched in turn, a few cache lines near the top of each. Stacks lie an odd number of pages
 * apart and their tops are shifted against each other, so that these lines do not map to the same cache sets.
 *
 * AddressSanitizer is told of every switch, since it keeps the bounds of the current stack.
 */
#include "kernels/cuda/host/fiber.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if !defined(__x86_64__) && !defined(CLD_FIBER_UCONTEXT)
#    define CLD_FIBER_UCONTEXT
#endif
#ifdef CLD_FIBER_UCONTEXT
#    include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/common_interface_defs.h>
#endif

#ifdef __SANITIZE_ADDRESS__ /* its frames are larger */
enum { STACK = 512 << 10 };
#else
enum { STACK = 128 << 10 };
#endif
enum { GUARD = 4 << 10, SHIFTS = 21, SHIFT = 192 }; /* 21 tops in a page, three cache lines apart */

#ifdef CLD_FIBER_UCONTEXT
typedef ucontext_t place;
#else
typedef void *place; /* a stack pointer; above it, the pushed registers */
#endif

struct cld_fiber {
    place at;
    void (*work)(void);
    void *bottom; /* of the stack */
    size_t bytes;
    void *fake; /* the sanitizer's */
};

static place caller; /* where the running fiber was entered */
static cld_fiber *current;

/* ---- the switch ---------------------------------------------------------------------------------------------- */

#ifdef CLD_FIBER_UCONTEXT
static void go(place *from, place *to) { swapcontext(from, to); }
#else
__attribute__((naked, noinline, no_sanitize_address)) static void go(place *, place *) {
    asm("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq (%rsi), %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\t"
        "ret");
}
#endif

#ifdef __SANITIZE_ADDRESS__
static const void *caller_bottom;
static size_t caller_bytes;
static void departing(void **fake, const void *bottom, size_t bytes) {
    __sanitizer_start_switch_fiber(fake, bottom, bytes);
}
static void in_fiber(void *fake) { __sanitizer_finish_switch_fiber(fake, &caller_bottom, &caller_bytes); }
static void in_caller(void *fake) { __sanitizer_finish_switch_fiber(fake, NULL, NULL); }
#else
enum : size_t { caller_bytes = 0 };
static const void *const caller_bottom = NULL;
static void departing(void **, const void *, size_t) {}
static void in_fiber(void *) {}
static void in_caller(void *) {}
#endif

static void begin(void) {
    in_fiber(NULL);
    current->work();
    abort();
}

void cld_fiber_enter(cld_fiber *fiber) {
    void *fake = NULL;
    current = fiber;
    departing(&fake, fiber->bottom, fiber->bytes);
    go(&caller, &fiber->at);
    in_caller(fake);
    current = NULL;
}

void cld_fiber_leave(void) {
    cld_fiber *self = current;
    departing(&self->fake, caller_bottom, caller_bytes);
    go(&self->at, &caller);
    in_fiber(self->fake);
}

cld_fiber *cld_fiber_current(void) { return current; }

/* ---- stacks -------------------------------------------------------------------------------------------------- */

/* The first entry starts at begin. */
static void prepare(cld_fiber *fiber) {
#ifdef CLD_FIBER_UCONTEXT
    getcontext(&fiber->at);
    fiber->at.uc_stack.ss_sp = fiber->bottom;
    fiber->at.uc_stack.ss_size = fiber->bytes;
    fiber->at.uc_link = NULL;
    makecontext(&fiber->at, begin, 0);
#else
    /* The stack of a fiber that is about to return to begin: six registers, begin's address, and no caller of begin. */
    uint64_t *top = (uint64_t *)((char *)fiber->bottom + fiber->bytes);
    for (int i = 1; i <= 8; i++) top[-i] = 0;
    top[-2] = (uint64_t)(uintptr_t)begin;
    fiber->at = top - 8;
#endif
}

cld_fiber *cld_fiber_new(void (*work)(void)) {
    static unsigned count;
    cld_fiber *fiber = (cld_fiber *)calloc(1, sizeof *fiber);
    if (!fiber) return NULL;
    void *memory = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE) != 0) {
        if (memory != MAP_FAILED) munmap(memory, GUARD + STACK);
        free(fiber);
        return NULL;
    }
    fiber->work = work;
    fiber->bottom = (char *)memory + GUARD;
    fiber->bytes = STACK - count++ % SHIFTS * SHIFT;
    prepare(fiber);
    return fiber;
}
