/* CIFAR-10 and CIFAR-100 from the files their authors distribute, in either layout, with any number of rows.
 *
 *   python  pickles: cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}, cifar-100-python/{train,test,meta}
 *   binary  rows of a label (CIFAR-100: the coarse one, then the fine one) and 3072 pixels:
 *           cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin, cifar-100-binary/{train,test}.bin
 *
 * Both store an image as three planes of 32 x 32; in memory it is interleaved, as all images here. Files that were
 * pickled again by other programs are read as well (cifar_pickle.h): labels of any integer type, pixels in any memory
 * order. Sizes are checked, and images counted, before anything of their size is read or allocated.
 */
#ifndef CLD_DATA_CIFAR_H
#define CLD_DATA_CIFAR_H

#include "runtime/tensor/tensor.h"

typedef enum cld_cifar_kind { CLD_CIFAR10, CLD_CIFAR100_FINE, CLD_CIFAR100_COARSE } cld_cifar_kind;
typedef enum cld_cifar_layout { CLD_LAYOUT_AUTO, CLD_LAYOUT_PYTHON, CLD_LAYOUT_BINARY } cld_cifar_layout;

#define CLD_CIFAR_MAX_CLASSES 100

typedef struct cld_cifar {
    cld_tensor *images; /* u8 (N, 32, 32, 3) */
    cld_tensor *labels; /* i64 (N) */
    int classes;
    char *names[CLD_CIFAR_MAX_CLASSES]; /* NULL if the folder does not say */
} cld_cifar;

/* root is the folder of the files, a folder that contains it under its own name, or one that contains it inside
 * CIFAR-10/ (or CIFAR-100/). On failure *out is empty; on success it is to be freed with cld_cifar_free. */
cld_status cld_cifar_read(cld_cifar *out, const char *root, cld_cifar_kind kind, cld_cifar_layout layout,
                          bool test);
void cld_cifar_free(cld_cifar *c);

#endif
