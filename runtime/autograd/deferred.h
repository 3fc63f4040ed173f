/* Where actions requested by backward (cld_after_backward) are collected. */
#ifndef CLD_AUTOGRAD_DEFERRED_H
#define CLD_AUTOGRAD_DEFERRED_H

#include "runtime/autograd/tape.h"

/* Collects them in this list from now on; an error if another backward of this thread is running. */
cld_status cld__begin_deferring(const char *op, cld_deferred *list);
void cld__end_deferring(void);

#endif
