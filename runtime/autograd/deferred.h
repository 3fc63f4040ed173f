/* Where what backward asks for (cld_after_backward) is put down. */
#ifndef CLD_AUTOGRAD_DEFERRED_H
#define CLD_AUTOGRAD_DEFERRED_H

#include "runtime/autograd/tape.h"

/* From now on into this list; an error if another backward of this thread is running. */
cld_status cld__begin_deferring(const char *op, cld_deferred *list);
void cld__end_deferring(void);

#endif
