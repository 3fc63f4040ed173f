/* What io.c (files, folders) and tensor_files.c (files of tensors) share. */
#ifndef CLD_BINDINGS_IO_H
#define CLD_BINDINGS_IO_H

#include "bindings/bindings.h"
#include "runtime/io/safetensors.h"

/* C memory that a Lua error must not leak: a userdata that knows how to free what it holds. */
typedef struct cldL_guard {
    void *held;
    size_t count;
    void (*release)(struct cldL_guard *g);
} cldL_guard;

cldL_guard *cldL_new_guard(lua_State *L, void (*how)(cldL_guard *g));
void cldL_release(cldL_guard *g);
void cldL_release_memory(cldL_guard *g); /* free() */

/* A string without embedded zeros: C would cut it short there. */
const char *cldL_check_text(lua_State *L, int arg);

/* What a save writes. */
typedef struct cldL_contents {
    cld_named_tensor *tensors;
    cld_metadata *metadata;
    size_t count, metadata_count;
} cldL_contents;

/* The tables of tensors at `arg`, and of metadata, if any, after it. What the result points to stays on the stack. */
cldL_contents cldL_check_contents(lua_State *L, int arg);

/* tensor_files.c: load, save, load_npy, save_npy, save_npz, is_torch. */
extern const luaL_Reg cldL_tensor_files[];

#endif
