/* The settings of steps: their values in Lua as numbers, and their limits, for each form. */
#include "runtime/views/program.h"

#include <string.h>

int cld_setting_numbers(cld_setting_form form) {
    switch (form) {
    case CLD_SETTING_RANGE:
    case CLD_SETTING_FACTOR:
    case CLD_SETTING_SHIFT:
    case CLD_SETTING_SIZE:
    case CLD_SETTING_SHORTER: return 2;
    case CLD_SETTING_CHANNELS: return 3;
    default: return 1;
    }
}

/* What a user may write. */
static const char *written(cld_setting_form form) {
    switch (form) {
    case CLD_SETTING_NUMBER:
    case CLD_SETTING_PROBABILITY: return "a number";
    case CLD_SETTING_INTEGER: return "an integer";
    case CLD_SETTING_RANGE: return "a number or {low, high}";
    case CLD_SETTING_FACTOR: return "a number x, for {1 - x, 1 + x}, or {low, high}";
    case CLD_SETTING_SHIFT: return "a number x, for {-x, x}, or {low, high}";
    case CLD_SETTING_SIZE: return "a number of pixels or {height, width}";
    case CLD_SETTING_SHORTER: return "a number of pixels for the shorter side, or {height, width}";
    case CLD_SETTING_CHANNELS: return "a number or a list of 3 numbers, one per channel";
    case CLD_SETTING_CHOICE: return "a word";
    }
    return "a number";
}

static cld_status wrong(const cld_setting *s) {
    if (s->form == CLD_SETTING_CHOICE)
        return cld_fail(CLD_INVALID, "%s must be one of %s", s->name, s->choices);
    return cld_fail(CLD_INVALID, "%s must be %s", s->name, written(s->form));
}

cld_status cld_setting_set(double *numbers, const cld_setting *s, const double *given, int count) {
    int n = cld_setting_numbers(s->form);
    if (s->form == CLD_SETTING_CHOICE || (count != 1 && count != n)) return wrong(s);
    for (int i = 0; i < n; i++) numbers[i] = given[count == 1 ? 0 : i];
    if (count != 1) {
        if (s->form == CLD_SETTING_SHORTER && given[1] == 0.0)
            return cld_fail(CLD_INVALID, "%s must be %s, all of them positive", s->name, written(s->form));
        return CLD_OK;
    }
    double x = given[0];
    if ((s->form == CLD_SETTING_FACTOR || s->form == CLD_SETTING_SHIFT) && !(x >= 0.0))
        return cld_fail(CLD_INVALID, "%s must be %s; one number is at least 0", s->name, written(s->form));
    if (s->form == CLD_SETTING_FACTOR) {
        numbers[0] = x < 1.0 ? 1.0 - x : 0.0;
        numbers[1] = 1.0 + x;
    }
    if (s->form == CLD_SETTING_SHIFT) numbers[0] = -x;
    if (s->form == CLD_SETTING_SHORTER) numbers[1] = 0.0;
    return CLD_OK;
}

cld_status cld_setting_choose(double *numbers, const cld_setting *s, const char *word) {
    size_t length = strlen(word);
    int place = 0;
    for (const char *at = s->form == CLD_SETTING_CHOICE ? s->choices : NULL; at; place++) {
        const char *end = strchr(at, '|');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (n == length && memcmp(at, word, n) == 0) {
            *numbers = place;
            return CLD_OK;
        }
        at = end ? end + 1 : NULL;
    }
    return wrong(s);
}

/* ---- limits -------------------------------------------------------------------------------------------- */

static bool within(const cld_setting *s, double x) { return x >= s->low && x <= s->high; }

static cld_status check_one(const cld_setting *s, double x) {
    bool integer = s->form == CLD_SETTING_INTEGER;
    if (within(s, x) && (!integer || x == floor(x))) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s must be %s from %s%g to %g; got %g", s->name,
                    integer ? "an integer" : "a number", s->low == CLD_ABOVE_ZERO ? "above " : "",
                    s->low == CLD_ABOVE_ZERO ? 0.0 : s->low, s->high, x);
}

static cld_status check_range(const cld_setting *s, const double *x) {
    if (within(s, x[0]) && within(s, x[1]) && x[0] <= x[1]) return CLD_OK;
    bool above = s->low == CLD_ABOVE_ZERO;
    const char *also = s->form == CLD_SETTING_FACTOR  ? ", or a number x for {1 - x, 1 + x}"
                       : s->form == CLD_SETTING_SHIFT ? ", or a number x for {-x, x}"
                                                      : "";
    return cld_fail(CLD_INVALID, "%s must be {low, high} with %g %s low <= high <= %g%s; got {%g, %g}",
                    s->name, above ? 0.0 : s->low, above ? "<" : "<=", s->high, also, x[0], x[1]);
}

static cld_status check_size(const cld_setting *s, const double *x) {
    bool shorter = s->form == CLD_SETTING_SHORTER && x[1] == 0.0;
    if (within(s, x[0]) && x[0] == floor(x[0]) && (shorter || (within(s, x[1]) && x[1] == floor(x[1]))))
        return CLD_OK;
    if (shorter)
        return cld_fail(CLD_INVALID, "%s must be %g to %g pixels, an integer; got %g", s->name, s->low,
                        s->high, x[0]);
    return cld_fail(CLD_INVALID, "%s must be %g to %g pixels, integers; got %g x %g", s->name, s->low,
                    s->high, x[0], x[1]);
}

static cld_status check_channels(const cld_setting *s, const double *x) {
    for (int c = 0; c < 3; c++) {
        if (within(s, x[c])) continue;
        if (s->low == CLD_ABOVE_ZERO)
            return cld_fail(CLD_INVALID, "%s must be positive and at most %g; channel %d has %g", s->name,
                            s->high, c + 1, x[c]);
        return cld_fail(CLD_INVALID, "%s must be %g to %g; channel %d has %g", s->name, s->low, s->high,
                        c + 1, x[c]);
    }
    return CLD_OK;
}

cld_status cld_setting_check(const cld_setting *s, const double *numbers) {
    if (isnan(s->defaults[0]) && isnan(numbers[0]))
        return cld_fail(CLD_INVALID, "%s must be given: %s (%s)", s->name, written(s->form), s->help);
    switch (s->form) {
    case CLD_SETTING_NUMBER:
    case CLD_SETTING_INTEGER: return check_one(s, numbers[0]);
    case CLD_SETTING_PROBABILITY:
        if (numbers[0] >= 0.0 && numbers[0] <= 1.0) return CLD_OK;
        return cld_fail(CLD_INVALID, "%s is a probability, 0 to 1; got %g", s->name, numbers[0]);
    case CLD_SETTING_RANGE:
    case CLD_SETTING_FACTOR:
    case CLD_SETTING_SHIFT: return check_range(s, numbers);
    case CLD_SETTING_SIZE:
    case CLD_SETTING_SHORTER: return check_size(s, numbers);
    case CLD_SETTING_CHANNELS: return check_channels(s, numbers);
    case CLD_SETTING_CHOICE: return CLD_OK;
    }
    return CLD_OK;
}
