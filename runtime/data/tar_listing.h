/* The images of an archive, as if it had been unpacked and listed: the same order, the same labels.
 *
 *     cld_tar *t = cld_tar_open(path);
 *     cld_listing *l = cld_tar_listing_new(t, NULL, NULL);
 *     // image i is member l->members[i] of t
 *
 * Leading folders that all images share are dropped as long as one folder of each path remains, so that
 * photos/cat/1.jpg has the class cat. The inner archives of ImageNet's training set are treated as folders (see tar.h).
 * If several members have the same name, the last one counts, as in unpacking. A folder beside the classes with files
 * but no images is an error; one without files is not visible. If an archive contains train/, test/ or val/, the caller
 * must say which.
 *
 * Images without folders may have labels in separate members, as WebDataset writes them: KEY.cls, a number as text,
 * where KEY is the image's name up to its first dot. The class names are then the numbers.
 */
#ifndef CLD_DATA_TAR_LISTING_H
#define CLD_DATA_TAR_LISTING_H

#include "runtime/data/listing.h"
#include "runtime/io/tar.h"

/* inside: only the content of this folder of the archive; NULL: everything. options may be NULL. */
cld_listing *cld_tar_listing_new(const cld_tar *t, const char *inside, const cld_listing_options *options);

#endif
