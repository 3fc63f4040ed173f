/* Checks that the cuDNN that was found is complete and can be used by this library. */
#ifndef CLD_CUDA_DNN_LIBRARIES_H
#define CLD_CUDA_DNN_LIBRARIES_H

#include "kernels/backend.h"

/* cuDNN opens its other libraries when it first needs them. Without some of these it finds no engine, and does not say
 * why; if one of them is missing, this is an error that names `what`. */
cld_status cld__dnn_check_parts(const char *what);
/* An error that names `what` if the libraries that cuDNN has opened lie in several folders: they may then be of
 * different versions. */
cld_status cld__dnn_check_folders(const char *what);

#endif
