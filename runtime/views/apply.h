/* A program's views of one image, drawn and made at once. */
#ifndef CLD_VIEWS_APPLY_H
#define CLD_VIEWS_APPLY_H

#include "runtime/tensor/tensor.h"
#include "runtime/views/program.h"

/* image u8 (height, width, 3) -> f32 (p->images, 3, height of a view, its width) on the cpu. NULL on failure. */
cld_tensor *cld_program_views(const cld_program *p, cld_tensor *image, const cld_view_key *key);

#endif
