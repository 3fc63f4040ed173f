/* Optimizers: what changes parameters after backward has filled in their gradients.
 *
 * An optimizer is a rule (sgd.c, lars.c, adam.c) and what all rules share, which is here: groups of parameters with
 * settings of their own, parameters without a gradient, which stay as they are, the rate of a step, its condition, the
 * loss scale of fp16, sums of gradients over several losses, clipping, and the state that a checkpoint keeps.
 *
 * A step is one call of the backend, in which no value comes back to the host: it can be captured in a graph.
 */
#ifndef CLD_OPTIM_OPTIMIZER_H
#define CLD_OPTIM_OPTIMIZER_H

#include "runtime/autograd/tape.h"
#include "runtime/optim/overlap.h"
#include "runtime/optim/loss_scale.h"

/* ---- a rule ---- */

typedef enum cld_rule_setting_kind {
    CLD_RULE_NUMBER,
    CLD_RULE_PAIR, /* two numbers that follow each other */
    CLD_RULE_SWITCH,
    CLD_RULE_REFUSED /* known elsewhere, not here: only false is taken */
} cld_rule_setting_kind;

/* A setting as users know it. */
typedef struct cld_rule_setting {
    const char *name; /* PyTorch's */
    cld_rule_setting_kind kind;
    size_t offset;     /* in cld_rule_settings */
    const char *label; /* in print(optimizer), if it is not the default; NULL: never */
    bool always;       /* there too (not of a switch) */
} cld_rule_setting;

/* What must be known of the steps made with a parameter. */
typedef enum cld_counting {
    CLD_COUNT_NONE,
    CLD_COUNT_FIRST, /* whether it is the first: a state without counts says so by an empty slot */
    CLD_COUNT_ALL
} cld_counting;

typedef struct cld_optim_rule {
    const char *name; /* in Lua, in errors, when printed */
    cld_rule kernel;
    int slots; /* tensors of state for each parameter, of its shape and dtype, zero at first */
    const char *slot_names[2];        /* with the parameter's number their keys in the state: "momentum.3" */
    const cld_rule_setting *settings; /* the last has no name */
    cld_rule_settings defaults;
    cld_status (*check)(const cld_rule_settings *s);      /* of the rule's own settings; (optional) */
    bool (*keeps_slots)(const cld_rule_settings *s);      /* (optional) false: these settings need none */
    cld_counting (*counting)(const cld_rule_settings *s); /* (optional) */
} cld_optim_rule;

/* The settings that every rule has, for its list. */
#define CLD_RULE_FIELD(member) offsetof(cld_rule_settings, member)
#define CLD_RULE_LR                                                                                          \
    {"lr", CLD_RULE_NUMBER, CLD_RULE_FIELD(lr), "lr", false}, {                                              \
        "lr_factor", CLD_RULE_NUMBER, CLD_RULE_FIELD(lr_factor), "lr factor", false                          \
    }
#define CLD_RULE_DECAY                                                                                       \
    { "weight_decay", CLD_RULE_NUMBER, CLD_RULE_FIELD(weight_decay), "weight decay", true }

extern const cld_optim_rule cld_sgd;   /* sgd.c */
extern const cld_optim_rule cld_lars;  /* lars.c */
extern const cld_optim_rule cld_adamw; /* adam.c */
extern const cld_optim_rule cld_adam;  /* adam.c */

/* ---- an optimizer ---- */

/* Parameters that share their settings. */
typedef struct cld_optim_group {
    int count;                  /* of its parameters, which follow those of the group before */
    cld_rule_settings settings; /* lr NaN: the optimizer's */
} cld_optim_group;

/* Between begin and finish. */
typedef struct cld_gradient_sum {
    bool open, scaled;  /* scaled: by the loss scale */
    bool ended;         /* the last loss was added */
    cld_tensor *made;   /* u8: were all losses finite? NULL: none was added */
    cld_deferred later; /* what their backwards asked for */
} cld_gradient_sum;

typedef struct cld_optimizer {
    const cld_optim_rule *rule;
    int count, group_count;
    cld_tensor **params;
    cld_tensor **slots[2]; /* of each parameter; NULL entries: no step has been made with it */
    cld_tensor *steps;     /* i64 (count): steps made with each; NULL: no group counts them */
    cld_optim_group *groups;
    double lr;               /* NaN: none given, each step must bring its own */
    cld_tensor *skipped;     /* i64 of no dimension: steps that were not made */
    cld_tensor *grad_norm;   /* f32 of no dimension: NaN, or what a step was asked for */
    cld_tensor *clip_factor; /* f64 of no dimension */
    cld_loss_scale loss_scale;
    cld_gradient_sum sum;
    bool compared;        /* the ranks' parameters, before the first step */
    cld_overlap *overlap; /* of several ranks, since the first loss that was said to be the last; else NULL */
} cld_optimizer;

/* Retains params, as many as the groups count together: leaves, contiguous, f32 or f64, none twice. An error names the
 * first that is not, or the setting that is out of range. */
cld_optimizer *cld_optimizer_new(const cld_optim_rule *rule, cld_tensor *const *params,
                                 const cld_optim_group *groups, int group_count, double lr);
void cld_optimizer_free(cld_optimizer *s);
cld_status cld_optimizer_set_lr(cld_optimizer *s, double lr);
/* The group's rate in a step that was given lr, NaN if it was given none. */
double cld_optimizer_rate(const cld_optimizer *s, const cld_optim_group *g, double lr);

/* ---- a step ---- */

/* What one step is given. A tensor is read on the device, so that nobody waits for it, and a step that was captured goes
 * by what it holds when it is replayed. */
typedef struct cld_step_params {
    double lr;             /* for all groups; NaN: each group's own, and the optimizer's for the others */
    cld_tensor *lr_tensor; /* in place of it: one element, of any dtype and device */
    double clip;           /* the largest common norm of the gradients; 0: as they are */
    bool grad_norm; /* write that norm, as it was before, to .grad_norm; where clip is given it is anyway */
} cld_step_params;

/* Drops the gradients: .grad is NULL. Ends what begin began. */
void cld_optimizer_zero_grad(cld_optimizer *s);
/* From the gradients at hand. An error if they are multiplied by the loss scale: finish alone divides by it. */
cld_status cld_optimizer_step(cld_optimizer *s, const cld_step_params *p);

/* ---- accumulate.c: a step from losses ---- */

/* begin: zero_grad. add: backward from weight times the loss, added to the gradients; a loss that is not finite is not
 * followed, and the whole step is not made then. finish: the step; what backward asked for (rows of a memory bank) happens
 * here, in order, if the step is made. It returns whether it was, as u8 of no dimension on the parameters' device; of a
 * step that was not made, the parameters and the optimizer's state stay as they are, skipped counts it, and grad_norm is
 * NaN, if it was asked for.
 *
 * last: no other loss follows. Of several ranks the gradients are then summed up while this backward goes on; if no loss is said
 * to be the last, in finish.
 *
 * In fp16 the gradients are multiplied by the loss scale, which is read at begin and moves in finish alone; a gradient
 * that is not finite in the end is as a loss that is not. Any error ends what begin began: nothing has changed but the
 * gradients. begin twice, step in between, add or finish without begin, and add after the last are errors. */
cld_status cld_optimizer_begin(cld_optimizer *s);
cld_status cld_optimizer_add(cld_optimizer *s, cld_tensor *loss, double weight, bool last);
cld_tensor *cld_optimizer_finish(cld_optimizer *s, const cld_step_params *p);
/* begin, add and finish in one. */
cld_tensor *cld_optimizer_minimize(cld_optimizer *s, cld_tensor *loss, const cld_step_params *p);

/* ---- for these files ---- */

/* made: nothing changes if it is 0, or NULL. scale: of the gradients at hand, or NULL. */
cld_status cld__optimizer_step(cld_optimizer *s, const cld_step_params *p, cld_tensor *made,
                               const cld_tensor *scale);
cld_status cld__optimizer_check_step(const cld_optimizer *s, const cld_step_params *p);
/* Before the first step, of several ranks: have they the same parameters? */
cld_status cld__optimizer_compare(cld_optimizer *s);
/* An error where parameters that have a gradient, or one and its gradient, lie on several devices. */
cld_status cld__optimizer_check_devices(const cld_optimizer *s);
bool cld__optimizer_has_gradient(const cld_optimizer *s);

/* ---- state.c ---- */

/* Another's state. */
typedef struct cld_optimizer_state {
    cld_tensor *const *slots[2]; /* as many as parameters; an empty tensor stands for none */
    cld_tensor *const *steps;    /* the same, one integer each; NULL entries: not in the state */
    cld_tensor *skipped;         /* an integer */
    cld_tensor *scale, *good;    /* NULL, both: it had none */
    cld_tensor *groups;          /* the numbers of parameters, an integer each; NULL: not said */
} cld_optimizer_state;
/* Go on from it, with copies. What is there is written in place, since a captured graph writes to it. Where something does
 * not fit nothing has changed. */
cld_status cld_optimizer_load(cld_optimizer *s, const cld_optimizer_state *state);
/* The count of steps made with parameter i, a view without dimensions; NULL if it is not kept, without an error. */
cld_tensor *cld_optimizer_steps(const cld_optimizer *s, int i);
cld_counting cld_optimizer_counting(const cld_optimizer *s, int i);

#endif
