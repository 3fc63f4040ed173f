/* The kind of a file with tensors, from its content. */
#ifndef CLD_IO_RECOGNISE_H
#define CLD_IO_RECOGNISE_H

#include "runtime/core/error.h"

typedef enum cld_file_kind {
    CLD_FILE_SAFETENSORS, /* also a file of no other kind: its reader says what is wrong */
    CLD_FILE_TORCH,       /* torch_file.h; also a zip archive that may turn out to be something else */
    CLD_FILE_NPZ,         /* npz.h: a zip archive that begins with an .npy, or is called .npz */
} cld_file_kind;

/* A file of another known kind, such as a tar archive or a web page, is an error that names the kind. */
cld_status cld_recognise(const char *path, cld_file_kind *kind);

#endif
