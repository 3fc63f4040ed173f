/* Contexts that one OS thread runs in turn: each has its own stack and continues where it left off. */
#ifndef CLD_CUDA_HOST_FIBER_H
#define CLD_CUDA_HOST_FIBER_H

struct cld_fiber;

/* Creates a fiber that will run `work`, which must not return, on a stack that is never freed. NULL: no memory. */
cld_fiber *cld_fiber_new(void (*work)(void));
/* Continues in the fiber until it leaves. Not from within a fiber. */
void cld_fiber_enter(cld_fiber *fiber);
/* Returns to where this fiber was entered; this call returns when the fiber is entered again. */
void cld_fiber_leave(void);
/* The running fiber. */
cld_fiber *cld_fiber_current(void);

#endif
