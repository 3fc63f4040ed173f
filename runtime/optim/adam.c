/* Adam (Kingma and Ba, ICLR 2015) and AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR
 * 2019), as in torch.optim. For each parameter w with gradient g, its moments m and v, and t, the number of steps made
 * with it, including this one:
 *
 *     adam:   g += weight_decay w
 *     adamw:  w -= lr weight_decay w
 *     m   = beta1 m + (1 - beta1) g
 *     v   = beta2 v + (1 - beta2) g^2
 *     w  -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps) */
#include "runtime/optim/optimizer.h"

#include <math.h>

static const cld_rule_setting settings[] = {
    CLD_RULE_LR,
    {"betas", CLD_RULE_PAIR, CLD_RULE_FIELD(beta1), "betas", true},
    {"eps", CLD_RULE_NUMBER, CLD_RULE_FIELD(eps), "eps", false},
    CLD_RULE_DECAY,
    {"adapt", CLD_RULE_SWITCH, CLD_RULE_FIELD(adapt), NULL, false},
    {"amsgrad", CLD_RULE_REFUSED, 0, NULL, false},
    {0},
};

static cld_status check(const cld_rule_settings *s) {
    const char *name = s->decoupled ? "adamw" : "adam";
    if (!(s->beta1 >= 0 && s->beta1 < 1 && s->beta2 >= 0 && s->beta2 < 1))
        return cld_fail(CLD_INVALID, "%s: betas are %g and %g; expected numbers from 0 to below 1", name,
                        s->beta1, s->beta2);
    if (!(s->eps >= 0 && s->eps < INFINITY))
        return cld_fail(CLD_INVALID, "%s: eps is %g; expected a number of at least 0", name, s->eps);
    return CLD_OK;
}

static cld_counting counting(const cld_rule_settings *s) {
    (void)s;
    return CLD_COUNT_ALL;
}

#define ADAM_DEFAULTS .lr = NAN, .lr_factor = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .adapt = true

const cld_optim_rule cld_adamw = {
    .name = "adamw",
    .kernel = CLD_ADAM,
    .slots = 2,
    .slot_names = {"exp_avg", "exp_avg_sq"},
    .settings = settings,
    .defaults = {ADAM_DEFAULTS, .decoupled = true, .weight_decay = 0.01},
    .check = check,
    .counting = counting,
};

const cld_optim_rule cld_adam = {
    .name = "adam",
    .kernel = CLD_ADAM,
    .slots = 2,
    .slot_names = {"exp_avg", "exp_avg_sq"},
    .settings = settings,
    .defaults = {ADAM_DEFAULTS},
    .check = check,
    .counting = counting,
};
