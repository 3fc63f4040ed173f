/* Points and dots as text. canvas.h says what points are. */
#ifndef CLD_PLOT_MARKS_H
#define CLD_PLOT_MARKS_H

#include "runtime/tensor/tensor.h"

/* The d attribute of an SVG path, which the caller frees: lines from point to point, or on each point a line without
 * length, which a round cap turns into a disc. Coordinates are in tenths of a pixel; points at the same place become
 * one. NULL with an error if there is no memory. */
typedef enum cld_svg_path { CLD_SVG_LINES, CLD_SVG_DISCS } cld_svg_path;
char *cld_plot_path(const cld_tensor *points, cld_svg_path kind, size_t *length);

/* u8 (4 rows, 2 columns) -> i32 (rows, columns): for each 4 by 2 dots, the bits of their braille character in the low
 * byte, and above it the smallest number among them that is not 0. */
cld_tensor *cld_plot_braille(const cld_tensor *dots);

#endif
