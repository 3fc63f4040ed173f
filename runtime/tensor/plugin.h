/* Finding and loading libcld_cuda.so; each way to fail has its own message. */
#ifndef CLD_TENSOR_PLUGIN_H
#define CLD_TENSOR_PLUGIN_H

#include "kernels/backend.h"

/* NULL with an error. Loaded once and never unloaded: CUDA's own threads may still run in it. */
const cld_plugin *cld__plugin_load(void);

#endif
