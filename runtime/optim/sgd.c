/* Stochastic gradient descent, as torch.optim.SGD. For each parameter w with gradient g and, if the setting momentum is
 * not 0, its buffer buf (`momentum` in the state):
 *
 *     g   += weight_decay w
 *     buf  = momentum buf + (1 - dampening) g    (the first time: buf = g)
 *     w   -= lr buf                              (nesterov: w -= lr (g + momentum buf); without momentum: w -= lr g) */
#include "runtime/optim/optimizer.h"

#include <math.h>

static const cld_rule_setting settings[] = {
    CLD_RULE_LR,
    {"momentum", CLD_RULE_NUMBER, CLD_RULE_FIELD(momentum), "momentum", true},
    CLD_RULE_DECAY,
    {"dampening", CLD_RULE_NUMBER, CLD_RULE_FIELD(dampening), "dampening", false},
    {"nesterov", CLD_RULE_SWITCH, CLD_RULE_FIELD(nesterov), "nesterov", false},
    {"adapt", CLD_RULE_SWITCH, CLD_RULE_FIELD(adapt), NULL, false},
    {0},
};

static cld_status check(const cld_rule_settings *s) {
    if (!(s->momentum >= 0))
        return cld_fail(CLD_INVALID, "sgd: momentum is %g; expected at least 0", s->momentum);
    if (!isfinite(s->dampening))
        return cld_fail(CLD_INVALID, "sgd: dampening is %g; expected a finite number", s->dampening);
    if (s->nesterov && (s->momentum == 0 || s->dampening != 0))
        return cld_fail(CLD_INVALID, "sgd: nesterov needs a momentum and no dampening; they are %g and %g",
                        s->momentum, s->dampening);
    return CLD_OK;
}

static bool keeps_slots(const cld_rule_settings *s) { return s->momentum != 0; }

/* The buffer starts at zero, so only a dampened one must know which step is its first. */
static cld_counting counting(const cld_rule_settings *s) {
    return s->momentum != 0 && s->dampening != 0 ? CLD_COUNT_FIRST : CLD_COUNT_NONE;
}

const cld_optim_rule cld_sgd = {
    .name = "sgd",
    .kernel = CLD_SGD,
    .slots = 1,
    .slot_names = {"momentum"},
    .settings = settings,
    .defaults = {.lr = NAN, .lr_factor = 1, .adapt = true},
    .check = check,
    .keeps_slots = keeps_slots,
    .counting = counting,
};
