/* Shared by the files of cld.optim: optim.c, optim_settings.c, optim_state.c. */
#ifndef CLD_BINDINGS_OPTIM_H
#define CLD_BINDINGS_OPTIM_H

#include "bindings/bindings.h"

#include "runtime/optim/optimizer.h"

#define CLDL_OPTIMIZER "cld.optimizer"

/* The optimizer that a method or property was called with. */
cld_optimizer *cldL_check_optimizer(lua_State *L);
/* "sgd:step", for messages; left on the stack. */
const char *cldL_method_name(lua_State *L, const cld_optimizer *s, const char *method);
/* Waits for the device. */
lua_Integer cldL_skipped_steps(lua_State *L, const cld_optimizer *s);

/* optim_settings.c */
/* The settings at arg, and those of `base` for what it does not set; the learning rate is its own, or NaN. */
cld_rule_settings cldL_check_settings(lua_State *L, int arg, const cld_optim_rule *rule,
                                      cld_rule_settings base);
/* The field lr; NaN if it is absent. A NaN from the caller is an error. */
double cldL_check_lr(lua_State *L, int arg, const cld_optim_rule *rule);
int cldL_optimizer_groups(lua_State *L); /* the property */
int cldL_optimizer_tostring(lua_State *L);

/* optim_state.c: the methods */
int cldL_optimizer_state_dict(lua_State *L);
int cldL_optimizer_load_state_dict(lua_State *L);

#endif
