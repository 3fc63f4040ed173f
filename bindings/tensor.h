/* What the files bindings/tensor_*.c share. Each holds one part of a tensor's Lua interface and lists it in one
 * array, which tensor.c puts on the metatable (x:exp()), into cld (cld.exp(x)), or both. */
#ifndef CLD_BINDINGS_TENSOR_H
#define CLD_BINDINGS_TENSOR_H

#include "bindings/bindings.h"

extern const luaL_Reg cldL_creation_functions[]; /* tensor_create.c: cld.zeros, ... */
extern const luaL_Reg cldL_random_functions[];   /* tensor_random.c: cld.rand, cld.manual_seed, ... */
extern const luaL_Reg cldL_random_methods[];     /* tensor_random.c: x:uniform_(a, b), ... */
extern const luaL_Reg cldL_view_ops[];       /* tensor_view.c: both cld.reshape(x, ...) and x:reshape(...) */
extern const luaL_Reg cldL_math_ops[];       /* tensor_math.c: both */
extern const luaL_Reg cldL_math_functions[]; /* tensor_math.c: cld.einsum(equation, a, b) */
extern const luaL_Reg cldL_cast_methods[];   /* tensor_math.c: x:to("f64"), ... */
extern const luaL_Reg cldL_math_metamethods[]; /* tensor_math.c: __add, ... */
extern const luaL_Reg cldL_reduce_ops[];       /* tensor_reduce.c: both */
extern const luaL_Reg cldL_select_ops[];       /* tensor_select.c: both: gather, topk, sort, ... */
extern const luaL_Reg cldL_select_functions[]; /* tensor_select.c: cld.where(condition, a, b) */
extern const luaL_Reg cldL_select_methods[];   /* tensor_select.c: a:where(condition, b) */
extern const luaL_Reg cldL_in_place_methods[]; /* tensor_in_place.c: x:add_(y), ... */

/* tensor_table.c: between Lua values and elements. */
int cldL_tensor_from_table(lua_State *L); /* cld.tensor */
int cldL_totable(lua_State *L);
int cldL_item(lua_State *L);
void cldL_push_item(lua_State *L, cld_tensor *x); /* x has one element */

/* tensor_index.c: t[i], t[{...}] and their assignment; key (and value) at stack positions 2 (and 3). */
int cldL_index(lua_State *L, cld_tensor *x);
int cldL_set_index(lua_State *L, cld_tensor *x);
int cldL_rows(lua_State *L);
/* Converts a position that the user counts from 1, or from the end, to the runtime's. */
int64_t cldL_position(lua_Integer i);

/* autograd.c */
int cldL_backward_method(lua_State *L);

/* autograd_grad.c: cld.autograd.grad, t:register_hook */
int cldL_grad(lua_State *L);
int cldL_register_hook(lua_State *L);
void cldL_open_hooks(lua_State *L); /* the type of what register_hook returns */
/* An error if the field create_graph of the table at arg is true. */
void cldL_check_no_create_graph(lua_State *L, int arg, const char *function);

/* The last arguments of a creation function: a dtype string or {dtype=, device=, requires_grad=}. */
typedef struct cldL_options {
    cld_dtype dtype;
    const cld_backend *device;
    bool requires_grad;
} cldL_options;
void cldL_check_options(lua_State *L, int arg, cldL_options *o); /* none or nil: o stays */
/* A shape from argument arg on (a table or numbers), then options; returns ndim. */
int cldL_check_shape_and_options(lua_State *L, int arg, int64_t shape[CLD_MAX_DIMS], cldL_options *o);
/* Makes the new tensor on top of the stack as the options ask; 1 result. */
int cldL_finish(lua_State *L, cld_tensor **box, const cldL_options *o);

/* The Lua number at arg: an integer stays one. */
cld_scalar cldL_scalar(lua_State *L, int arg);
/* The Lua number or boolean at arg as a tensor without dimensions (left on the stack): exact, or an error of op. */
cld_tensor *cldL_push_number(lua_State *L, int arg, const char *op, cld_dtype dtype,
                             const cld_backend *device);
/* A tensor, or a number as a 0-d tensor of like's dtype and device; f32 if `like` is of integers and cannot hold its
 * fraction, as in PyTorch. */
cld_tensor *cldL_check_operand(lua_State *L, int arg, const char *op, const cld_tensor *like);
/* x = the number at arg, everywhere. */
void cldL_fill(lua_State *L, const char *op, cld_tensor *x, int arg);

/* tensor_view.c: one of x's dimensions at arg, or a table of them; returns how many. */
int cldL_check_lines(lua_State *L, int arg, const cld_tensor *x, int dims[CLD_MAX_DIMS]);

/* Replaces y at 2 by y times the alpha at 3, if there is one. */
void cldL_scale_operand(lua_State *L);
/* The tensor at 1 clamped to the bounds at 2 and 3, on top of the stack. */
cld_tensor **cldL_clamp(lua_State *L);
/* The op on the operands at 1 and 2, one of which may be a number; 1 result. */
int cldL_binary(lua_State *L, cld_binary kind);

/* Closes a temporary tensor at once: the collector might take its time. */
static inline void cldL_close(cld_tensor **box) { cld_tensor_free(cld_tensor_steal(box)); }

/* Row-major host memory of x in a dtype that C can read, in a tensor left on the stack; to be closed after use. */
cld_tensor **cldL_push_host(lua_State *L, cld_tensor *x);
/* Push element i of a tensor from cldL_push_host: an integer or a float. */
void cldL_push_element(lua_State *L, const cld_tensor *host, int64_t i);

#endif
