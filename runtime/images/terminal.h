/* Images as text that a terminal shows. An image is u8 (height, width, 3), already at the wanted size.
 *
 *   half blocks   two pixels per character, one above the other: "▀" in the upper one's colour on the lower one's
 *   characters    also two pixels per character, by their brightness, for terminals without colour
 *   Sixel         DEC's graphics (VT330/340 Programmer Reference, chapter 14), with a palette made for the image
 *
 * The result is text, which the caller frees; NULL with an error if there is no memory for it.
 */
#ifndef CLD_IMAGES_TERMINAL_H
#define CLD_IMAGES_TERMINAL_H

#include "runtime/tensor/tensor.h"

typedef enum cld_terminal_colors {
    CLD_COLORS_FULL, /* 24 bits */
    CLD_COLORS_256,  /* xterm's: a cube of 6 x 6 x 6 and 24 greys */
} cld_terminal_colors;

char *cld_terminal_blocks(const cld_tensor *image, cld_terminal_colors colors, size_t *length);
char *cld_terminal_characters(const cld_tensor *image, size_t *length);
char *cld_terminal_sixel(const cld_tensor *image, size_t *length);

/* The nearest of xterm's 256 colours, except the 16 that users redefine. */
int cld_terminal_color(const uint8_t rgb[3]);

#endif
