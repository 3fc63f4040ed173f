/* Checks whether the cuDNN that was found is one that this library can use, with all its parts. */
#ifndef CLD_CUDA_DNN_LIBRARIES_H
#define CLD_CUDA_DNN_LIBRARIES_H

#include "kernels/backend.h"

/* cuDNN opens its other libraries when it first needs them. An error of `what` if it has not found one of them without
 * which it finds no engine, since cuDNN does not say why. */
cld_status cld__dnn_check_parts(const char *what);
/* An error of `what` if the libraries that it has opened lie in several folders: they may then be of different
 * versions. */
cld_status cld__dnn_check_folders(const char *what);

#endif
