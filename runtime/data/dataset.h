/* A data set, as the loader sees it: a number of images, each opened by its row and then decoded as far as needed.
 * Labels, classes and their names are in Lua (lua/cld/data), and so are sets made of other sets, whose rows a selection
 * looks up.
 *
 * A kind of data set is one file: a struct that begins with cld_dataset, its two or three functions, and a constructor.
 * Opening tells where an image is, either as pixels in memory or as the bytes of a file in one of the formats of
 * decode.h. Decoding is the same for all kinds.
 *
 *     cld_source s = {0};                                       -- one per thread, used again and again
 *     CLD_TRY(cld_dataset_open(&s, set, row));                  -- s.height, s.width: now known
 *     CLD_TRY(cld_source_pixels(&pixels, &s, part, shrink));    -- decoded; valid until s is used again
 *     cld_source_free(&s);
 */
#ifndef CLD_DATA_DATASET_H
#define CLD_DATA_DATASET_H

#include <stdbool.h>

#include "runtime/images/decode.h"
#include "runtime/data/listing.h"
#include "runtime/io/tar.h"
#include "runtime/tensor/tensor.h"

/* An open image. */
typedef struct cld_source {
    int height, width; /* full size, upright if the data set asks for that */
    /* What the kind's `open` fills in: either ... */
    const uint8_t
        *pixels; /* interleaved, dense, height and width set; valid until the next open, or with the set */
    /* ... or the bytes of a file: pixels NULL. */
    const uint8_t *bytes;
    size_t length;
    cld_scratch file; /* memory for either, if the kind needs it */
    bool has_label;   /* known only after opening; overrides the data set's label */
    int64_t label;
    /* private to dataset.c */
    cld_picture picture;
    bool upright; /* rotate it as its EXIF orientation says */
    cld_scratch decoded, turned;
} cld_source;

typedef struct cld_dataset cld_dataset;

typedef struct cld_dataset_ops {
    const char *kind; /* "files" */
    /* Finds image `row`. On failure the message says what is wrong, and need not name the image: describe does.
     * CLD_INVALID and CLD_IO are this image's own fault, and another may take its place; other statuses are not. */
    cld_status (*open)(cld_dataset *d, int64_t row, cld_source *s);
    /* The image's name for messages, as the user knows it: a path, "images[12]". Printable. */
    void (*describe)(const cld_dataset *d, int64_t row, char *text, size_t size);
    void (*free)(cld_dataset *d);
} cld_dataset_ops;

struct cld_dataset {
    const cld_dataset_ops *ops;
    int64_t count;
    int height, width; /* of every image, if all have the same size; else 0 */
    cld_tensor
        *tensor; /* u8 (count, height, width, 3) on the cpu: all images, if they are in memory; else NULL */
    bool one_thread; /* open only on the thread that made the set (it calls Lua) */
    bool upright;    /* EXIF orientation is applied */
    _Atomic int references;
};

cld_dataset *cld_dataset_retain(cld_dataset *d);
void cld_dataset_free(cld_dataset *d); /* the last reference frees it; NULL is allowed */

/* Opens an image and, if it is a file, reads its header. */
cld_status cld_dataset_open(cld_source *s, cld_dataset *d, int64_t row);
/* Decodes the part (in pixels of the full size) at 1/shrink, as closely as the picture's format allows; see out->shrink
 * and out->there. */
cld_status cld_source_pixels(cld_pixels *out, cld_source *s, cld_rect part, int shrink);
/* Releases the memory of a large image, so that many threads do not each keep the most they ever needed. */
#define CLD_SOURCE_KEEP ((size_t)4 << 20) /* bytes kept of each of its memories */
void cld_source_trim(cld_source *s);
void cld_source_free(cld_source *s);
/* All images of a set in which they have the same size: u8 (count, height, width, 3) on the cpu. */
cld_tensor *cld_dataset_load(cld_dataset *d);
/* The image's name for messages. */
void cld_dataset_describe(const cld_dataset *d, int64_t row, char *text, size_t size);

/* ---- the kinds: each NULL on failure -------------------------------------------------------------------- */

/* u8 (N, H, W, 3), contiguous, on the cpu. dataset_memory.c */
cld_dataset *cld_dataset_of_tensor(cld_tensor *images);
/* A .npy file of u8 (N, H, W, 3) in C order, read image by image on demand: the file may be larger than memory.
 * dataset_array.c */
cld_dataset *cld_dataset_of_npy(const char *path);
/* A file of images of this size only, each three planes of u8, stored row by row or column by column: STL-10's.
 * dataset_array.c */
cld_dataset *cld_dataset_of_planes(const char *path, int height, int width, bool by_columns);
/* The files of a listing. dataset_files.c */
cld_dataset *cld_dataset_of_files(cld_listing *l);
/* Members of an archive that is read in place: image i is member l->members[i] of its listing. dataset_members.c */
cld_dataset *cld_dataset_of_members(const cld_tar *t, cld_listing *l);
/* Row i is row[i] (i64) of parts[part[i]] (NULL: of parts[0]): a subset, a concatenation. dataset_selection.c */
cld_dataset *cld_dataset_select(cld_dataset *const *parts, int count, const int32_t *part, const int64_t *row,
                                int64_t rows);

#endif
