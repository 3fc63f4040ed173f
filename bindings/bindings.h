/* Lua <-> C: what every binding file shares.
 *
 * A binding unwraps its arguments, calls one runtime function and wraps the result; it has no logic. Userdata are
 * made first and filled second, so that a Lua error in between leaks nothing:
 *
 *     static int tensor_exp(lua_State *L) {
 *         cld_tensor *x = cldL_check_tensor(L, 1);
 *         cld_tensor **out = cldL_new_tensor(L);
 *         *out = cld_unary_op(CLD_EXP, x, 0, 0);
 *         return cldL_result(L, *out);
 *     }
 *
 * One opener per file (cldL_open_tensor, ...), all listed in cld.c: a table of functions that becomes cld.<name>.
 */
#ifndef CLD_BINDINGS_H
#define CLD_BINDINGS_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"
#include "runtime/views/program.h"

#define CLDL_TENSOR "cld.tensor"
#define CLDL_DTYPES "f32 f64 bf16 f16 i64 i32 u8" /* for messages */

/* The tensor at arg. Anything else, even a closed tensor, is a Lua error that names the function, the argument and
 * the actual type. */
cld_tensor *cldL_check_tensor(lua_State *L, int arg);
cld_tensor *cldL_opt_tensor(lua_State *L, int arg);  /* NULL for none or nil */
cld_tensor *cldL_test_tensor(lua_State *L, int arg); /* NULL for anything else */
/* Push an empty tensor userdata, which the caller fills. Collects garbage first if many bytes were allocated. */
cld_tensor **cldL_new_tensor(lua_State *L);
/* Push a tensor, taking over the reference (NULL raises the thread's error). */
int cldL_push_tensor(lua_State *L, cld_tensor *t);

/* The scopes of temporaries, scope.c. */
void cldL_note_tensor(lua_State *L);            /* add the tensor at the top to the coroutine's scope */
void cldL_forget_tensor(lua_State *L, int arg); /* remove it from all scopes of the coroutine */
void cldL_leave_scope(lua_State *L); /* from now on no scope is open; push the previous one, or nil */
void cldL_enter_scope(lua_State *L); /* pop a scope or nil, and open it */

/* Raise the thread's error record as a Lua error with the position of the Lua caller. Does not return. In a function
 * that knows its name (below) the message begins with that name, not with the name of an op that it uses. */
int cldL_raise(lua_State *L);
/* As luaL_setfuncs, but the only upvalue of each function is its Lua name, unless its errors may belong to other
 * functions. */
void cldL_set_named(lua_State *L, const luaL_Reg *functions);
/* The running function's name, if cldL_set_named gave it one, else NULL. */
const char *cldL_name(lua_State *L);
/* Returns 1, since the result is already on the stack; raises if it is NULL. */
int cldL_result(lua_State *L, const void *result);
/* No result: raises unless CLD_OK. */
void cldL_check_status(lua_State *L, cld_status status);
/* Ends every save: raises its error; the writer's warning goes to stderr. */
void cldL_check_saved(lua_State *L, cld_status status);

/* An error if there are more than `most` arguments: none is ignored silently. */
void cldL_check_count(lua_State *L, int most);
/* true or false; the fallback for none or nil. */
bool cldL_check_flag(lua_State *L, int arg, bool fallback);
/* 1-based Lua dimension (negative from the end) to the 0-based C one. */
int cldL_check_dim(lua_State *L, int arg, const cld_tensor *x);
/* The same for ops that work line by line: a tensor without dimensions is one line of one element, as in PyTorch. */
int cldL_check_line(lua_State *L, int arg, const cld_tensor *x);
/* The same of a dimension that argument arg names. */
int cldL_line(lua_State *L, int arg, lua_Integer dim, const cld_tensor *x);
cld_dtype cldL_check_dtype(lua_State *L, int arg);
const cld_backend *cldL_check_device(lua_State *L, int arg);
/* Push {in_use =, peak =, reserved =, limit =}. */
void cldL_push_memory(lua_State *L, cld_memory_info info);
/* A shape from a table at arg, or from the numbers at arg, arg + 1, ...; returns ndim. */
int cldL_check_shape(lua_State *L, int arg, int64_t shape[CLD_MAX_DIMS]);

/* Push {split =, total =, block =, begin =, rows =}, dist.c. */
void cldL_push_share(lua_State *L, const cld_batch_share *s);

/* Fields of the options table at arg; the fallback if absent. cldL_check_fields rejects unknown fields and names the
 * nearest. */
double cldL_field_number(lua_State *L, int arg, const char *name, double fallback);
lua_Integer cldL_field_integer(lua_State *L, int arg, const char *name, lua_Integer fallback);
bool cldL_field_boolean(lua_State *L, int arg, const char *name, bool fallback);
/* These two leave the value, if there is one, on the stack: a metamethod may have made it for this call. */
const char *cldL_field_string(lua_State *L, int arg, const char *name, const char *fallback);
cld_tensor *cldL_field_tensor(lua_State *L, int arg, const char *name); /* NULL if absent */
/* The tensors of the list at arg, at least one. Their array is on the stack, and the tensors above it. */
cld_tensor **cldL_check_list(lua_State *L, int arg, int *count);
/* names ends with NULL. */
void cldL_check_fields(lua_State *L, int arg, const char *function, const char *const *names);

/* dataset.c. The set that cld.core.dataset made; Lua owns it. */
cld_dataset *cldL_check_dataset(lua_State *L, int arg);

/* Use the C locale (runtime/core/text.h) until the calling C function returns or raises. Pushes a guard. */
void cldL_use_c_locale(lua_State *L);
/* Push the text as cld_printable makes it. */
void cldL_push_printable(lua_State *L, const char *text, size_t length, cld_newlines newlines);

/* Levenshtein's distance: how many letters to change. For words as short as names; 64 for longer ones. */
int cldL_edit_distance(const char *a, const char *b);
/* Whether the word may be a misspelling or a part of that name. */
bool cldL_is_near(const char *word, const char *name);

/* For an __index whose upvalues are the methods and the properties, both by name: raises "WHAT has no field 'shaep';
 * did you mean 'shape'?", or "no method" if a method is nearer. Returns no result, so nil, if the name begins with
 * __, since libraries look up such names in any value; with may_ask also if no name is near. */
int cldL_no_such_field(lua_State *L, const char *what, bool may_ask);

/* autograd.c. A binding calls these two around a runtime function that runs backward, so that a Function's Lua code
 * runs in the calling coroutine: in another one, its locals, hooks (Ctrl-C in the REPL) and traceback would be those
 * of a waiting coroutine. Pass the result of begin to end; nothing in between may raise. */
lua_State *cldL_begin_backward(lua_State *L);
void cldL_end_backward(lua_State *outer);
/* The coroutine that called; the main one if none did. */
lua_State *cldL_backward_state(lua_State *main);

/* files.c. The listing and the archive that cld.core.files made; Lua owns them. */
cld_listing *cldL_check_listing(lua_State *L, int arg);
cld_tar *cldL_check_tar(lua_State *L, int arg);

/* sweep.c, writer.c: functions in the tables of dataset and io. */
int cldL_sweep(lua_State *L);
int cldL_writer(lua_State *L);

/* torch_file.c: how io's load reads a PyTorch file; add_torch adds functions to io's table, which is on top. */
int cldL_load_torch(lua_State *L, const char *path);
int cldL_is_torch(lua_State *L);
void cldL_add_torch(lua_State *L);

/* event.c: adds TensorBoard's files to io's table, which is on top. */
void cldL_add_events(lua_State *L);
/* export.c: adds its functions to io's table, which is on top. */
void cldL_add_export(lua_State *L);

/* views.c. The program that cld.core.views.program made; Lua owns it. */
const cld_program *cldL_check_program(lua_State *L, int arg);

/* nn.c. Reads the field, one integer for both axes or a pair of them; out is unchanged if it is absent.
 * nn_functions.c: more functions for nn's table. */
void cldL_field_pair(lua_State *L, int arg, const char *function, const char *name, int out[2]);
extern const luaL_Reg cldL_nn_functions[];

/* Openers: each pushes one table (or registers methods and pushes one). */
int cldL_open_tensor(lua_State *L);   /* tensor.c, tensor_*.c: creation functions; methods on the metatable */
int cldL_open_autograd(lua_State *L); /* autograd.c */
int cldL_open_scope(lua_State *L);    /* scope.c: scopes of temporaries */
int cldL_open_nn(lua_State *L);       /* nn.c: conv2d, batch_norm, pools, linear as functions */
int cldL_open_losses(lua_State *L);   /* losses.c */
int cldL_open_optim(lua_State *L);    /* optim.c */
int cldL_open_graph(lua_State *L);    /* graph.c */
int cldL_open_image(lua_State *L);    /* image.c */
int cldL_open_picture(lua_State *L);  /* picture.c: image files */
int cldL_open_plot(lua_State *L);     /* plot.c: functions that draw plots */
int cldL_open_screen(lua_State *L);   /* screen.c: images in a terminal */
int cldL_open_cuda(lua_State *L);     /* cuda.c */
int cldL_open_data(lua_State *L);     /* data.c: CIFAR's files */
int cldL_open_dataset(lua_State *L);  /* dataset.c */
int cldL_open_loader(lua_State *L);   /* loader.c */
int cldL_open_embed(lua_State *L);    /* embed.c: PCA, t-SNE */
int cldL_open_files(lua_State *L);    /* files.c: the images of folders and archives */
int cldL_open_dist(lua_State *L);
int cldL_open_download(lua_State *L); /* download.c: fetching, checksums, unpacking */
int cldL_open_io(lua_State *L);       /* io.c: safetensors, npy, files */
int cldL_open_json(lua_State *L);     /* json.c */
int cldL_open_system(lua_State *L);   /* system.c: threads, memory, signals, clock, versions, terminal */
int cldL_open_text(lua_State *L);     /* text.c: the C locale, printable text */
int cldL_open_views(lua_State *L);    /* views.c: the steps that make views, and their programs */

int luaopen_cld_core(lua_State *L); /* cld.c */

#endif
