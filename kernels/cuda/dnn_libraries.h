/* Is the cuDNN that was found one that this library can use, all of it? */
#ifndef CLD_CUDA_DNN_LIBRARIES_H
#define CLD_CUDA_DNN_LIBRARIES_H

#include "kernels/backend.h"

/* cuDNN opens its other libraries when it first needs them. An error of `what` if it has not found one without which it finds
 * no engine, and does not say why. */
cld_status cld__dnn_check_parts(const char *what);
/* An error of `what` if those that it has opened lie in several folders: then they need not be of one version. */
cld_status cld__dnn_check_folders(const char *what);

#endif
