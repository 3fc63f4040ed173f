/* Contexts that one OS thread runs in turn: each has a stack of its own and goes on where it left. */
#ifndef CLD_CUDA_HOST_FIBER_H
#define CLD_CUDA_HOST_FIBER_H

struct cld_fiber;

/* Will run `work`, which must not return, on a stack that is never freed. NULL: no memory. */
cld_fiber *cld_fiber_new(void (*work)(void));
/* Go on in it until it leaves. Not from within a fiber. */
void cld_fiber_enter(cld_fiber *fiber);
/* Back to where this fiber was entered; returns when it is entered again. */
void cld_fiber_leave(void);
/* The one that runs now. */
cld_fiber *cld_fiber_current(void);

#endif
