/* Optimizers update parameters after backward has computed their gradients.
 *
 * An optimizer is a rule (sgd.c, lars.c, adam.c) plus what all rules share, which is here: groups of parameters with
 * their own settings; parameters without a gradient, which stay unchanged; the rate of a step; its condition; fp16's
 * loss scale; gradients summed over several losses; clipping; and the state for checkpoints.
 *
 * A step is one call of the backend and reads nothing back to the host, so it can be captured in a graph.
 */
#ifndef CLD_OPTIM_OPTIMIZER_H
#define CLD_OPTIM_OPTIMIZER_H

#include "runtime/autograd/tape.h"
#include "runtime/optim/overlap.h"
#include "runtime/optim/loss_scale.h"

/* ---- a rule ---- */

typedef enum cld_rule_setting_kind {
    CLD_RULE_NUMBER,
    CLD_RULE_PAIR, /* two consecutive numbers */
    CLD_RULE_SWITCH,
    CLD_RULE_REFUSED /* known to other rules, not supported here: only false is accepted */
} cld_rule_setting_kind;

/* A setting as users know it. */
typedef struct cld_rule_setting {
    const char *name; /* PyTorch's */
    cld_rule_setting_kind kind;
    size_t offset;     /* in cld_rule_settings */
    const char *label; /* in print(optimizer), if it differs from the default; NULL: never */
    bool always;       /* printed always (not for a switch) */
} cld_rule_setting;

/* What must be known about the steps made with a parameter. */
typedef enum cld_counting {
    CLD_COUNT_NONE,
    CLD_COUNT_FIRST, /* whether it is the first: without counts, an empty slot says so */
    CLD_COUNT_ALL
} cld_counting;

typedef struct cld_optim_rule {
    const char *name; /* in Lua, in errors, when printed */
    cld_rule kernel;
    int slots;                        /* state tensors per parameter, of its shape and dtype, zero at first */
    const char *slot_names[2];        /* their keys in the state, with the parameter's number: "momentum.3" */
    const cld_rule_setting *settings; /* terminated by one without a name */
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
    int count;                  /* of its parameters, which follow those of the group before it */
    cld_rule_settings settings; /* lr NaN: the optimizer's lr */
} cld_optim_group;

/* The state between begin and finish. */
typedef struct cld_gradient_sum {
    bool open, scaled;  /* scaled: by the loss scale */
    bool ended;         /* the last loss was added */
    cld_tensor *made;   /* u8: were all losses finite? NULL: none was added yet */
    cld_deferred later; /* actions requested by their backwards */
} cld_gradient_sum;

typedef struct cld_optimizer {
    const cld_optim_rule *rule;
    int count, group_count;
    cld_tensor **params;
    cld_tensor **slots[2]; /* for each parameter; NULL entries: no step has been made with it yet */
    cld_tensor *steps;     /* i64 (count): number of steps made with each; NULL: no group counts them */
    cld_optim_group *groups;
    double lr;               /* NaN: none; each step must be given one */
    cld_tensor *skipped;     /* i64, 0-d: number of skipped steps */
    cld_tensor *grad_norm;   /* f32, 0-d: NaN, or the norm that a step was asked for */
    cld_tensor *clip_factor; /* f64, 0-d */
    cld_loss_scale loss_scale;
    cld_gradient_sum sum;
    bool compared;        /* the ranks' parameters were compared, before the first step */
    cld_overlap *overlap; /* with several ranks, from the first loss marked as the last on; else NULL */
} cld_optimizer;

/* Retains params, as many as the groups have in total: leaves, contiguous, f32 or f64, without duplicates. An error
 * names the first bad one, or the setting that is out of range. */
cld_optimizer *cld_optimizer_new(const cld_optim_rule *rule, cld_tensor *const *params,
                                 const cld_optim_group *groups, int group_count, double lr);
void cld_optimizer_free(cld_optimizer *s);
cld_status cld_optimizer_set_lr(cld_optimizer *s, double lr);
/* The group's rate in a step that was given lr; NaN if there is none. */
double cld_optimizer_rate(const cld_optimizer *s, const cld_optim_group *g, double lr);

/* ---- a step ---- */

/* The parameters of one step. A tensor is read on the device, so nobody waits for it, and a captured step uses its
 * value at the time of the replay. */
typedef struct cld_step_params {
    double lr;             /* for all groups; NaN: each group's own, or the optimizer's */
    cld_tensor *lr_tensor; /* replaces it: one element, of any dtype and device */
    double clip;           /* the largest allowed common norm of the gradients; 0: no clipping */
    bool grad_norm;        /* write the norm before clipping to .grad_norm; implied by clip */
} cld_step_params;

/* Drops the gradients: .grad becomes NULL. Cancels a step started with begin. */
void cld_optimizer_zero_grad(cld_optimizer *s);
/* A step from the current gradients. An error if they are multiplied by the loss scale: only finish divides by it. */
cld_status cld_optimizer_step(cld_optimizer *s, const cld_step_params *p);

/* ---- accumulate.c: a step from losses ---- */

/* begin: zero_grad. add: backward from weight times the loss, added to the gradients. If a loss is not finite, its
 * gradients are not used, and the whole step is skipped. finish: the step; actions that backward requested (rows of a
 * memory bank) run here, in order, if the step is made. finish returns whether it was made, as a 0-d u8 on the
 * parameters' device. If it was skipped, the parameters and the optimizer's state do not change, skipped counts it, and
 * grad_norm, if asked for, is NaN.
 *
 * last: no other loss follows. With several ranks the gradients are then summed during this backward; if no loss is
 * marked as the last, finish sums them.
 *
 * In fp16 the gradients are multiplied by the loss scale, which is read in begin and changes only in finish. A gradient
 * that is not finite at the end has the same effect as such a loss. Any error cancels the step; only the gradients have
 * changed. begin twice, step in between, add or finish without begin, and add after the last are errors. */
cld_status cld_optimizer_begin(cld_optimizer *s);
cld_status cld_optimizer_add(cld_optimizer *s, cld_tensor *loss, double weight, bool last);
cld_tensor *cld_optimizer_finish(cld_optimizer *s, const cld_step_params *p);
/* begin, add and finish in one. */
cld_tensor *cld_optimizer_minimize(cld_optimizer *s, cld_tensor *loss, const cld_step_params *p);

/* ---- for these files ---- */

/* made: if it is 0 nothing changes; or NULL. scale: of the current gradients, or NULL. */
cld_status cld__optimizer_step(cld_optimizer *s, const cld_step_params *p, cld_tensor *made,
                               const cld_tensor *scale);
cld_status cld__optimizer_check_step(const cld_optimizer *s, const cld_step_params *p);
/* With several ranks, before the first step: checks that they have the same parameters. */
cld_status cld__optimizer_compare(cld_optimizer *s);
/* An error if parameters with a gradient, or a parameter and its gradient, are on different devices. */
cld_status cld__optimizer_check_devices(const cld_optimizer *s);
bool cld__optimizer_has_gradient(const cld_optimizer *s);

/* ---- state.c ---- */

/* The state of another optimizer. */
typedef struct cld_optimizer_state {
    cld_tensor *const *slots[2]; /* as many as parameters; an empty tensor means none */
    cld_tensor *const *steps;    /* the same, one integer each; NULL entries: not in the state */
    cld_tensor *skipped;         /* an integer */
    cld_tensor *scale, *good;    /* both NULL: it had none */
    cld_tensor *groups;          /* numbers of parameters, one integer per group; NULL: unknown */
} cld_optimizer_state;
/* Continues from it, with copies. Existing tensors are written in place, since a captured graph writes to them. If
 * something does not fit, nothing is changed. */
cld_status cld_optimizer_load(cld_optimizer *s, const cld_optimizer_state *state);
/* The number of steps made with parameter i, as a 0-d view; NULL without an error if it is not counted. */
cld_tensor *cld_optimizer_steps(const cld_optimizer *s, int i);
cld_counting cld_optimizer_counting(const cld_optimizer *s, int i);

#endif
