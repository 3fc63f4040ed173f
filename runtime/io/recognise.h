/* What kind of file one with tensors is, by its content. */
#ifndef CLD_IO_RECOGNISE_H
#define CLD_IO_RECOGNISE_H

#include "runtime/core/error.h"

typedef enum cld_file_kind {
    CLD_FILE_SAFETENSORS, /* also what is none of the others: its reader says what is wrong */
    CLD_FILE_TORCH,       /* torch_file.h; also a zip archive that then turns out to be another's */
    CLD_FILE_NPZ,         /* npz.h: a zip archive that begins with an .npy, or is called .npz */
} cld_file_kind;

/* An error if it is of another known kind, a tar archive or a web page say, which it names. */
cld_status cld_recognise(const char *path, cld_file_kind *kind);

#endif
