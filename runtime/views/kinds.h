/* All kinds of steps, in the order in which lists and messages name them. To add one: a row here, and a file that
 * defines cld_kind_<name> (runtime/views/flip.c is the shortest). */
#ifndef CLD_VIEWS_KINDS_H
#define CLD_VIEWS_KINDS_H

#include "runtime/views/program.h"

#define CLD_VIEW_KINDS(X)                                                                                    \
    X(random_resized_crop)                                                                                   \
    X(resize)                                                                                                \
    X(center_crop)                                                                                           \
    X(random_crop)                                                                                           \
    X(flip)                                                                                                  \
    X(color_jitter)                                                                                          \
    X(random_grayscale)                                                                                      \
    X(gaussian_blur)                                                                                         \
    X(solarize)                                                                                              \
    X(rand_augment)                                                                                          \
    X(jigsaw)                                                                                                \
    X(normalize)                                                                                             \
    X(erasing)

#define CLD_DECLARE(name) extern const cld_view_kind cld_kind_##name;
CLD_VIEW_KINDS(CLD_DECLARE)
#undef CLD_DECLARE

#endif
