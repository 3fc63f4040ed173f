/* The images of a folder, in the order of torchvision's ImageFolder, without opening any of them.
 *
 *     char *folder = cld_find_split(root, CLD_SPLIT_TRAIN);           // root/train, or root itself
 *     cld_listing *l = cld_listing_new(folder, NULL);
 *     cld_listing_path(l, i, path, sizeof path);                      // l->labels[i] is its class
 *
 * Class folders or plain. If all images lie in sub-folders, each sub-folder is a class, in bytewise order, and images
 * in folders below it belong to that class too. If the images lie at the top, the folder is plain, without classes.
 * Images in both places are an error, because either reading would drop some; the caller's `layout` decides.
 *
 * Order: classes, then the folders of a class by their whole path ("a-b" comes before "a/c"), then names: the order of
 * Python's sorted(os.walk(followlinks=True)). A name that is not UTF-8 is an error.
 *
 * For a million files: readdir tells files from folders, so no stat is needed, and a name takes its length plus 20
 * bytes. Symbolic links are followed; one that leads back to a folder above it is an error.
 */
#ifndef CLD_DATA_LISTING_H
#define CLD_DATA_LISTING_H

#include "runtime/core/strings.h"
#include "runtime/io/image_name.h"

typedef enum cld_split { CLD_SPLIT_TRAIN, CLD_SPLIT_TEST, CLD_SPLIT_VAL } cld_split;

typedef enum cld_listing_layout {
    CLD_LISTING_AUTO,
    CLD_LISTING_CLASSES, /* images at the top are ignored, as in torchvision */
    CLD_LISTING_PLAIN    /* folders have no meaning: every label is -1 */
} cld_listing_layout;

typedef struct cld_listing_options {
    cld_listing_layout layout;
    const char *const
        *classes; /* NULL: all; else only these sub-folders, in any order. Others are not read */
    size_t class_count;
    /* NULL: the first problem is an error. Else problems with a single file or folder, or classes without images, are
     * added here, each zero-terminated, and the file, folder or class is left out. */
    cld_strings *problems;
} cld_listing_options;

typedef struct cld_listing {
    char *root; /* paths begin with this */
    int64_t count;
    int64_t *labels;     /* (count), from 0; -1 without classes */
    uint64_t *names;     /* (count), in text */
    uint32_t *folder_of; /* (count) */
    int64_t *members;    /* (count), for an archive's index (tar_listing.h); NULL: files */

    uint64_t *folders; /* in text: paths relative to the root, "" for the root itself */
    size_t folder_count;
    uint64_t *class_names; /* in text, sorted */
    int64_t classes;       /* 0: none */
    cld_strings text;

    _Atomic int others;                       /* references in addition to the first */
    int64_t unreadable[CLD_UNREADABLE_KINDS]; /* images left out because of their format */

    struct {
        size_t labels, names, folder_of, members, folders, class_names;
    } room;
} cld_listing;

/* The folder of the split, to be freed. `train`, `test` and `val` in the root are splits if there are two of them, or
 * if one of them is the root's only sub-folder. Test falls back to val. A root without splits is itself the train
 * split, and has no other. */
char *cld_find_split(const char *root, cld_split split);

/* options may be NULL. It is an error if there is no image, or a class without images. */
cld_listing *cld_listing_new(const char *folder, const cld_listing_options *options);
cld_listing *cld_listing_retain(cld_listing *l);
void cld_listing_free(cld_listing *l); /* the last reference; NULL is fine */

/* Like snprintf. In a listing of files every path is shorter than PATH_MAX. */
size_t cld_listing_path(const cld_listing *l, int64_t i, char *out, size_t size);
const char *cld_listing_class_name(const cld_listing *l, int64_t c);

/* A number that tells listings apart by their content: the paths below the root and the labels. */
uint64_t cld_listing_digest(const cld_listing *l);

/* An error that names the first class that is in one listing and not in the other. */
cld_status cld_listing_check_same_classes(const cld_listing *train, const cld_listing *test);

/* ---- for the makers of listings ---- */

/* Appends one more image. */
cld_status cld__listing_add(cld_listing *l, uint64_t name, uint32_t folder, int64_t label);
cld_status cld__listing_add_folder(cld_listing *l, uint64_t path);
cld_status cld__listing_add_class(cld_listing *l, uint64_t name);
/* "cannot find images ...": the error when there are none. */
cld_status cld__listing_fail_empty(const cld_listing *l, const char *what);
/* Sorted copy of the wanted names, to be freed; an error if a name is there twice. */
const char **cld__listing_wanted(const cld_listing_options *o);
cld_status cld__listing_fail_absent(const char *root, const char *const *absent, size_t count);

#endif
