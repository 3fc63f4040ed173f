/* Parts of a batch: the groups of rows that have their own statistics.
 *
 * The views of n images go through a network as one batch of views * n * unit rows, view after view; `unit` consecutive
 * rows belong to one image. Each view's images are cut into `blocks` runs whose sizes differ by at most one, the larger
 * ones first. A part is one block of one view, and part = view * blocks + block. So three integers describe the whole
 * partition, and {0, 0, 0} is a single part with all rows.
 *
 * If several ranks share a batch (total > 0), the whole batch's `total` images are cut into `of` blocks, and each
 * view's n local images start at `begin`. The parts are then the blocks that have local images, with their local rows:
 * `blocks` of them, the first one being number `first` of the batch. The first and the last block may have other images
 * on other ranks (cld_parts_here).
 */
#ifndef CLD_KERNELS_PARTS_H
#define CLD_KERNELS_PARTS_H

#include <math.h>
#include <stdint.h>

#include "runtime/core/philox.h" /* CLD_HOST_DEVICE */

typedef struct cld_parts {
    int views, blocks, unit; /* 0 means 1 */
    int64_t total, begin;    /* 0, 0: all images are here */
    int of, first;
} cld_parts;

CLD_HOST_DEVICE static inline int cld_parts_views(const cld_parts *p) { return p->views > 0 ? p->views : 1; }
CLD_HOST_DEVICE static inline int cld_parts_blocks(const cld_parts *p) {
    return p->blocks > 0 ? p->blocks : 1;
}
CLD_HOST_DEVICE static inline int cld_parts_unit(const cld_parts *p) { return p->unit > 0 ? p->unit : 1; }

CLD_HOST_DEVICE static inline int cld_part_count(const cld_parts *p) {
    return cld_parts_views(p) * cld_parts_blocks(p);
}

/* A partition of a number of rows, with the divisions done once, so that a GPU's threads need no 64-bit division. */
typedef struct cld_cut {
    int64_t view;         /* local rows of a view */
    int64_t block, image; /* rows of one of the batch's smaller blocks, of an image */
    int64_t before;       /* rows of a view before the local ones */
    int views, blocks;    /* local */
    int of, first;        /* blocks of a view in the whole batch, and the number of the first local one */
    int larger;           /* the first `larger` blocks have one image more */
} cld_cut;

CLD_HOST_DEVICE static inline cld_cut cld_cut_of(const cld_parts *p, int64_t rows) {
    cld_cut c;
    c.views = cld_parts_views(p);
    c.blocks = cld_parts_blocks(p);
    c.image = cld_parts_unit(p);
    int64_t here = rows / (c.views * c.image), images = p->total > 0 ? p->total : here;
    c.view = here * c.image;
    c.before = p->total > 0 ? p->begin * c.image : 0;
    c.of = p->total > 0 ? p->of : c.blocks;
    c.first = p->total > 0 ? p->first : 0;
    c.block = images / c.of * c.image;
    c.larger = (int)(images % c.of);
    return c;
}

/* How many of a view's local rows come before block `number` of the batch. */
CLD_HOST_DEVICE static inline int64_t cld_cut_until(const cld_cut *c, int number) {
    int64_t row = number * c->block + (number < c->larger ? number : c->larger) * c->image - c->before;
    return row < 0 ? 0 : row < c->view ? row : c->view;
}

CLD_HOST_DEVICE static inline int64_t cld_cut_begin(const cld_cut *c, int part) {
    return part / c->blocks * c->view + cld_cut_until(c, c->first + part % c->blocks);
}

CLD_HOST_DEVICE static inline int64_t cld_cut_rows(const cld_cut *c, int part) {
    int number = c->first + part % c->blocks;
    return cld_cut_until(c, number + 1) - cld_cut_until(c, number);
}

/* The number of rows of the largest part. That is the first or the second part, because some of the first block's rows
 * may be on another rank. */
CLD_HOST_DEVICE static inline int64_t cld_cut_most(const cld_cut *c) {
    int64_t first = cld_cut_rows(c, 0), second = c->blocks > 1 ? cld_cut_rows(c, 1) : 0;
    return first > second ? first : second;
}

/* The number of rows of a part's block in the whole batch, and the part's number among the parts of the whole batch. */
CLD_HOST_DEVICE static inline int64_t cld_cut_whole_rows(const cld_cut *c, int part) {
    return c->block + (c->first + part % c->blocks < c->larger ? c->image : 0);
}

CLD_HOST_DEVICE static inline int cld_cut_whole_part(const cld_cut *c, int part) {
    return part / c->blocks * c->of + c->first + part % c->blocks;
}

/* The first row of a part of `rows` rows; `rows` for the part after the last. */
static inline int64_t cld_part_begin(const cld_parts *p, int64_t rows, int part) {
    cld_cut c = cld_cut_of(p, rows);
    return cld_cut_begin(&c, part);
}

static inline int64_t cld_part_rows(const cld_parts *p, int64_t rows, int part) {
    cld_cut c = cld_cut_of(p, rows);
    return cld_cut_rows(&c, part);
}

/* ---- a batch that several ranks share ------------------------------------------------------------------------------- */

/* The block of an image, when `total` images are cut into `of` blocks. */
static inline int cld_block_at(int64_t total, int of, int64_t image) {
    int64_t size = total / of, larger = total % of;
    return (int)(image < larger * (size + 1) ? image / (size + 1) : (image - larger) / size);
}

/* The parts of images [begin, begin + images), of each view, of a batch of `total` in `of` blocks. 1 <= of <= total, and
 * images >= 1. */
static inline cld_parts cld_parts_here(int views, int unit, int of, int64_t total, int64_t begin,
                                       int64_t images) {
    int first = cld_block_at(total, of, begin), last = cld_block_at(total, of, begin + images - 1);
    cld_parts p = {views, last - first + 1, unit, total, begin, of, first};
    return p;
}

/* The parts of the whole batch. If all images are local, the same parts. */
static inline cld_parts cld_parts_whole(const cld_parts *p) {
    if (p->total == 0) return *p;
    cld_parts whole = {p->views, p->of, p->unit, 0, 0, 0, 0};
    return whole;
}

static inline int64_t cld_parts_whole_rows(const cld_parts *p, int64_t rows) {
    return p->total > 0 ? cld_parts_views(p) * p->total * cld_parts_unit(p) : rows;
}

/* The number of rows of a part's block in the whole batch. */
static inline int64_t cld_part_whole_rows(const cld_parts *p, int64_t rows, int part) {
    cld_cut c = cld_cut_of(p, rows);
    return cld_cut_whole_rows(&c, part);
}

/* ---- blocks ----------------------------------------------------------------------------------------------------------- */

/* The number of blocks of at most `block` images (0: one block with all). If there is more than one image, no block has
 * only one: then there are fewer blocks, and one of them is longer. */
static inline int64_t cld_block_count(int64_t images, int64_t block) {
    int64_t blocks = block > 0 ? (images + block - 1) / block : 1, most = images / 2;
    if (blocks > most) blocks = most;
    return blocks > 1 ? blocks : 1;
}

/* ---- running statistics -------------------------------------------------------------------------------------------- */

/* How a call updates the running statistics: each r becomes keep r + gain s.
 *
 * A call that has all images of its views makes one update per view, with keep = 1 - m and gain = m (m: the momentum).
 * s is the mean over the view's blocks, each weighted with its rows. */
typedef struct cld_running_move {
    double keep, gain;
} cld_running_move;

/* If a step's images come in several calls: this call has `rows` of `total`, and `done` came before. It need not have
 * all views that a step makes of an image: other calls with these images have `before` earlier views and `after` later
 * ones (for example views of another size). total 0: the call has all images. */
typedef struct cld_share {
    int64_t done, rows, total;
    int before, after;
} cld_share;

/* The V views of such a call make one update: s is the sum over v of m (1 - m)^(V - v) s_v. With the images' B + V + A
 * views in order (B: before, A: after), all calls of the step together make r <- (1 - K) r + sum of w s (1 - m)^A, with
 * w = rows / total and K = 1 - (1 - m)^(B + V + A). This call contributes k = w (1 - m)^A (1 - (1 - m)^V) to K, and
 * later ones contribute the rest, l = w (1 - (1 - m)^A) + (total - done - rows) / total K:
 *     r <- ((1 - k - l) r + w (1 - m)^A s) / (1 - l)
 * After the step's last call, r is the same as after calls with all images, view by view. */
static inline cld_running_move cld_move_by_share(double momentum, int views, const cld_share *of) {
    double share = (double)of->rows / (double)of->total, fade = pow(1 - momentum, of->after);
    double whole = 1 - pow(1 - momentum, of->before + views + of->after);
    double here = share * fade * (1 - pow(1 - momentum, views));
    double later = share * (1 - fade) + (double)(of->total - of->done - of->rows) / (double)of->total * whole;
    cld_running_move move = {(1 - here - later) / (1 - later), share * fade / (1 - later)};
    return move;
}

#endif
