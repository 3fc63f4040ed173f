/* The images of an archive, as if it had been unpacked and listed: the same order, the same labels.
 *
 *     cld_tar *t = cld_tar_open(path);
 *     cld_listing *l = cld_tar_listing_new(t, NULL, NULL);
 *     // image i is member l->members[i] of t
 *
 * Folders that all images have in common are left out as long as one folder of each path remains, so that photos/cat/1.jpg
 * is of the class cat. The inner archives of ImageNet's training set are folders here (see tar.h). Of several members of
 * one name the last counts, as when unpacking. A folder beside the classes with files but no images is an error; one
 * without files is not seen. An archive with train/, test/ or val/ inside wants to be told which.
 *
 * Images without folders may have their labels beside them, as WebDataset writes them: KEY.cls, a number in text, where
 * KEY is the image's name up to its first dot. The classes' names are the numbers then.
 */
#ifndef CLD_DATA_TAR_LISTING_H
#define CLD_DATA_TAR_LISTING_H

#include "runtime/data/listing.h"
#include "runtime/io/tar.h"

/* inside: only what lies in this folder of the archive, and nothing else of it; NULL: all. options may be NULL. */
cld_listing *cld_tar_listing_new(const cld_tar *t, const char *inside, const cld_listing_options *options);

#endif
