/* ImageNet's development kit (ILSVRC2012_devkit_t12): the class of each of the 50,000 validation images.
 *
 * The kit has its own numbering of the classes: line i of data/ILSVRC2012_validation_ground_truth.txt is the number of
 * image i (ILSVRC2012_val_0000000i.JPEG), and data/meta.mat says which WordNet id (n01440764) has that number. Its
 * synsets without children are the classes, numbered from 1.
 */
#ifndef CLD_DATA_DEVKIT_H
#define CLD_DATA_DEVKIT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_devkit {
    int64_t classes;
    char (*wnids)[16]; /* (classes), by number minus 1 */
    int64_t count;
    uint16_t *numbers; /* (count) of the images, minus 1 */
} cld_devkit;

/* path: the kit's folder, its parent, or the .tar.gz (if built with libarchive). */
cld_devkit *cld_devkit_open(const char *path);
void cld_devkit_free(cld_devkit *d); /* NULL is fine */

/* ---- for devkit.c ---- */

typedef struct cld__kit_file {
    const char *name; /* below the kit's folder */
    char *bytes;      /* to be freed; NULL: not found yet; zero-terminated */
    size_t length;
} cld__kit_file;

#define CLD__MOST_OF_KIT ((size_t)64 << 20) /* bytes of one file */

/* Reads those of the files that the archive contains. */
cld_status cld__kit_unpack(const char *archive, cld__kit_file *files, int count);

#endif
