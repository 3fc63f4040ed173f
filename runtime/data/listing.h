/* The images of a folder, in the order of torchvision's ImageFolder, without looking into any of them.
 *
 *     char *folder = cld_find_split(root, CLD_SPLIT_TRAIN);           // root/train, or root itself
 *     cld_listing *l = cld_listing_new(folder, NULL);
 *     cld_listing_path(l, i, path, sizeof path);                      // l->labels[i] is its class
 *
 * Class folders or plain. A folder whose images all lie in sub-folders is one of classes: each sub-folder is a class, in
 * bytewise order, and what lies in folders below it is that class's too. A folder with images at its top is a plain one,
 * without classes. Images in both places are an error, because either reading would drop something; the caller's
 * `layout` settles it.
 *
 * Order: classes, then the folders of a class by their whole path ("a-b" comes before "a/c"), then names: what Python's
 * sorted() makes of os.walk(followlinks=True). A name that is not UTF-8 is an error.
 *
 * A million files: readdir says what is a file, so that none is looked at, and a name takes its bytes and 20 more.
 * Symbolic links are followed; one that leads back to a folder above it is an error.
 */
#ifndef CLD_DATA_LISTING_H
#define CLD_DATA_LISTING_H

#include "runtime/core/strings.h"
#include "runtime/io/image_name.h"

typedef enum cld_split { CLD_SPLIT_TRAIN, CLD_SPLIT_TEST, CLD_SPLIT_VAL } cld_split;

typedef enum cld_listing_layout {
    CLD_LISTING_AUTO,
    CLD_LISTING_CLASSES, /* images at the top are left out, as torchvision does */
    CLD_LISTING_PLAIN    /* folders mean nothing: every label is -1 */
} cld_listing_layout;

typedef struct cld_listing_options {
    cld_listing_layout layout;
    const char *const
        *classes; /* NULL: all; else only these sub-folders, in any order. Others are not entered */
    size_t class_count;
    /* NULL: the first problem is an error. Else those that concern one file or folder, or classes without images, are
     * added here, each ending with a zero byte, and what they concern is left out. */
    cld_strings *problems;
} cld_listing_options;

typedef struct cld_listing {
    char *root; /* what paths begin with */
    int64_t count;
    int64_t *labels;     /* (count), from 0; -1 without classes */
    uint64_t *names;     /* (count), in text */
    uint32_t *folder_of; /* (count) */
    int64_t *members;    /* (count), of an archive's index (tar_listing.h); NULL: files */

    uint64_t *folders; /* in text: paths from the root, "" for itself */
    size_t folder_count;
    uint64_t *class_names; /* in text, sorted */
    int64_t classes;       /* 0: none */
    cld_strings text;

    _Atomic int others;                       /* references beside the first */
    int64_t unreadable[CLD_UNREADABLE_KINDS]; /* images left out because of their kind */

    struct {
        size_t labels, names, folder_of, members, folders, class_names;
    } room;
} cld_listing;

/* The folder that holds the split, to free. `train`, `test` and `val` in the root are splits if two of them are there, or
 * one of them is its only sub-folder. Test falls back on val. A root without splits is itself the train split, and has no
 * other. */
char *cld_find_split(const char *root, cld_split split);

/* options may be NULL. At least one image, and at least one in each class, or an error. */
cld_listing *cld_listing_new(const char *folder, const cld_listing_options *options);
cld_listing *cld_listing_retain(cld_listing *l);
void cld_listing_free(cld_listing *l); /* the last reference; NULL is fine */

/* As snprintf. Every path of a listing of files is shorter than PATH_MAX. */
size_t cld_listing_path(const cld_listing *l, int64_t i, char *out, size_t size);
const char *cld_listing_class_name(const cld_listing *l, int64_t c);

/* A number that tells listings apart by what they list: the paths below the root and the labels. */
uint64_t cld_listing_digest(const cld_listing *l);

/* An error that names the first class that is in one and not in the other. */
cld_status cld_listing_check_same_classes(const cld_listing *train, const cld_listing *test);

/* ---- for the makers of listings ---- */

/* Room for one more image, filled in. */
cld_status cld__listing_add(cld_listing *l, uint64_t name, uint32_t folder, int64_t label);
cld_status cld__listing_add_folder(cld_listing *l, uint64_t path);
cld_status cld__listing_add_class(cld_listing *l, uint64_t name);
/* "cannot find images ...": what is said when there are none. */
cld_status cld__listing_fail_empty(const cld_listing *l, const char *what);
/* Sorted copy of the wanted names; an error if one is there twice. To free. */
const char **cld__listing_wanted(const cld_listing_options *o);
cld_status cld__listing_fail_absent(const char *root, const char *const *absent, size_t count);

#endif
