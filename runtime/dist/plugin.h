/* For the files of this folder: which library moves the data. */
#ifndef CLD_DIST_PLUGIN_H
#define CLD_DIST_PLUGIN_H

#include "runtime/dist/dist.h"

/* The CPU's; NULL without a job. */
const cld_comm_plugin *cld__dist_plugin(void);

#endif
