/* Points and dots as text. Points are as canvas.h says. */
#ifndef CLD_PLOT_MARKS_H
#define CLD_PLOT_MARKS_H

#include "runtime/tensor/tensor.h"

/* The d attribute of an SVG path, to free: lines from point to point, or a line without length on each, which a round cap makes
 * a disc. A tenth of a pixel counts: points in the same place are one. NULL with an error if memory runs out. */
typedef enum cld_svg_path { CLD_SVG_LINES, CLD_SVG_DISCS } cld_svg_path;
char *cld_plot_path(const cld_tensor *points, cld_svg_path kind, size_t *length);

/* Of u8 (4 rows, 2 columns) the braille character of each 4 by 2 dots and the least number among them that is not 0:
 * i32 (rows, columns), the character's bits in the low byte, the number above. */
cld_tensor *cld_plot_braille(const cld_tensor *dots);

#endif
