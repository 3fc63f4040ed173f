/* Layer-wise adaptive rates (You et al., "Large Batch Training of Convolutional Networks", 2017), as in BYOL's code
 * (Grill et al., 2020). For each parameter w with gradient g, and its buffer m:
 *
 *     g  += weight_decay w
 *     g  *= eta |w| / |g|        if both norms are above 0
 *     m   = momentum m + g
 *     w  -= lr m
 *
 * adapt = false, for biases and norms: without the first two lines. */
#include "runtime/optim/optimizer.h"

#include <math.h>

static const cld_rule_setting settings[] = {
    CLD_RULE_LR,
    {"momentum", CLD_RULE_NUMBER, CLD_RULE_FIELD(momentum), "momentum", true},
    CLD_RULE_DECAY,
    {"eta", CLD_RULE_NUMBER, CLD_RULE_FIELD(eta), "eta", true},
    {"adapt", CLD_RULE_SWITCH, CLD_RULE_FIELD(adapt), "not adapted", false},
    {0},
};

static cld_status check(const cld_rule_settings *s) {
    if (!(s->momentum >= 0))
        return cld_fail(CLD_INVALID, "lars: momentum is %g; expected at least 0", s->momentum);
    if (!(s->eta > 0 && s->eta < INFINITY))
        return cld_fail(CLD_INVALID, "lars: eta is %g; expected a number above 0", s->eta);
    return CLD_OK;
}

static bool keeps_slots(const cld_rule_settings *s) { return s->momentum != 0; }

const cld_optim_rule cld_lars = {
    .name = "lars",
    .kernel = CLD_LARS,
    .slots = 1,
    .slot_names = {"momentum"},
    .settings = settings,
    .defaults = {.lr = NAN, .lr_factor = 1, .momentum = 0.9, .eta = 0.001, .adapt = true},
    .check = check,
    .keeps_slots = keeps_slots,
};
