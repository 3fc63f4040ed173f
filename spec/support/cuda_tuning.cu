/* The choice among plans (kernels/cuda/tune.h) with made-up plans: the time, result and workspace of each. Also what it
 * relies on: the comparison of two results (compare.h), the peak that it restores (pool.h), the table of choices
 * (plans.h). Prints what failed; the exit code is 1 if anything did. spec/cuda_tuning_spec.lua runs it on the host; it
 * also runs on a GPU (make gpu-check). */
#include <cmath>
#include <math.h>
#include <stdio.h>
#include <string>
#include <vector>

#include "kernels/cuda/compare.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/plans.h"
#include "kernels/cuda/pool.h"
extern "C" {
#include "kernels/cuda/tune.h"
}

static int checks, failures;

static void check_at(bool holds, int line, const std::string &what) {
    checks++;
    if (holds) return;
    failures++;
    printf("line %d: %s\n", line, what.c_str());
}
#define CHECK(condition) check_at(condition, __LINE__, #condition)
#define WORKS(call)      check_at((call) == CLD_OK, __LINE__, std::string(#call ": ") + cld_error_message())

/* ---- a world of made-up plans ---- */

struct candidate {
    int64_t engine;
    double milliseconds; /* negative: it cannot be made; 0: it fails when it is run */
    double result = 1;   /* its result; 1 is right */
    int64_t workspace = 0;
};

struct world {
    std::vector<candidate> candidates;
    double seconds = 1e9, making = 0; /* the budget; the time for making one */
    int64_t workspace = 1000;
    bool may_wait = true, has_room = true;

    double now = 0, written = 0, kept = 0;
    std::vector<int> made, ran; /* in order, once per call */

    static world *of(void *context) { return static_cast<world *>(context); }
    static bool make(void *context, int i, int64_t *workspace) {
        world *w = of(context);
        w->now += w->making;
        w->made.push_back(i);
        *workspace = w->candidates[(size_t)i].workspace;
        return w->candidates[(size_t)i].milliseconds >= 0;
    }
    static bool time(void *context, int i, int runs, double *milliseconds) {
        world *w = of(context);
        const candidate &c = w->candidates[(size_t)i];
        w->ran.push_back(i);
        w->now += (runs + 1) * c.milliseconds * 1e-3;
        w->written = c.result;
        *milliseconds = c.milliseconds;
        return c.milliseconds > 0;
    }
    static bool keep(void *context) {
        of(context)->kept = of(context)->written;
        return of(context)->has_room;
    }
    static double differ(void *context) {
        const world *w = of(context);
        return std::isnan(w->written) && std::isnan(w->kept) ? 0 : fabs(w->written / w->kept - 1);
    }
    static double clock(void *context) { return of(context)->now; }

    int tune() {
        std::vector<int64_t> engines;
        for (const candidate &c : candidates) engines.push_back(c.engine);
        cld_tuner t = {};
        t.count = (int)candidates.size(), t.engines = engines.data(), t.may_wait = may_wait;
        t.seconds = seconds, t.workspace = workspace, t.tolerance = 0.01, t.context = this;
        t.make = make, t.time = time, t.keep = keep, t.differ = differ, t.clock = clock;
        made.clear(), ran.clear(), now = 0;
        return cld_tune(&t);
    }
    /* The order in which they were first run. */
    std::vector<int> order() const {
        std::vector<int> firsts;
        for (int i : ran) {
            bool is_new = true;
            for (int f : firsts) is_new &= f != i;
            if (is_new) firsts.push_back(i);
        }
        return firsts;
    }
    int times_run(int i) const {
        int n = 0;
        for (int r : ran) n += r == i;
        return n;
    }
};

static world with(std::vector<candidate> candidates) {
    world w;
    w.candidates = std::move(candidates);
    return w;
}

static void check_speed() {
    CHECK(with({{1, 10}, {2, 5}, {3, 7}}).tune() == 1);
    CHECK(with({{1, 10}, {2, 9.8}, {3, 9.6}}).tune() == 0); /* no faster than clocks vary */
    CHECK(with({{1, 10}, {2, 9}, {3, 8.8}}).tune() == 1);
    CHECK(with({{1, -1}, {2, 0}, {3, 7}}).tune() == 2);
    CHECK(with({{1, -1}, {2, 0}}).tune() == -1);
    CHECK(with({}).tune() == -1);
    CHECK(with({{1, 5}}).tune() == 0);
    world slow = with({{1, 5}, {2, 700}, {3, 4}});
    CHECK(slow.tune() == 2);
    CHECK(slow.times_run(1) == 1 && slow.times_run(2) == 3); /* a hopeless one runs only once */
}

static void check_order() {
    world tiles = with({{7, 5}, {7, 5}, {7, 5}, {7, 5}, {3, 5}, {7, 5}, {3, 5}, {9, 5}});
    CHECK(tiles.tune() == 0);
    CHECK(tiles.order() == std::vector<int>({0, 4, 7, 1, 6, 2, 3, 5}));
    std::vector<candidate> many(CLD_MOST_CANDIDATES, candidate{7, 5});
    many.back() = {8, 1};
    world most = with(many); /* the last one of the most that are allowed */
    CHECK(most.tune() == CLD_MOST_CANDIDATES - 1);
    CHECK((int)most.order().size() == CLD_MOST_CANDIDATES && most.order()[1] == CLD_MOST_CANDIDATES - 1);
}

static void check_results() {
    CHECK(with({{1, 10}, {2, 5, 1.5}, {3, 7}}).tune() == 2);   /* the fastest is wrong */
    CHECK(with({{1, 10}, {2, 5, 1.005}, {3, 7}}).tune() == 1); /* it rounds differently */
    CHECK(with({{1, 10}, {2, 5, NAN}, {3, 7}}).tune() == 2);
    CHECK(with({{1, 1, 3}, {2, 5}, {3, 7}}).tune() == 1); /* the first is wrong, as the others agree */
    CHECK(with({{1, 1, 3}, {2, 5, 8}, {3, 7}, {4, 9}, {5, 9}}).tune() == 2);
    CHECK(with({{1, 5}, {2, 1, 2}}).tune() == 0); /* of two, the first is trusted */
    CHECK(with({{1, 1, NAN}, {2, 1, NAN}, {3, 1, NAN}}).tune() ==
          0); /* nothing can be compared: the input may be NaN */
    world no_room = with({{1, 10}, {2, 5, 1.5}, {3, 7}});
    no_room.has_room = false;
    CHECK(no_room.tune() == 1); /* nothing to compare with */
}

static void check_budgets() {
    std::vector<candidate> many(20, candidate{1, 100});
    for (int i = 0; i < 20; i++) many[(size_t)i].engine = i;
    many[19].milliseconds = 1;
    world hurried = with(many);
    hurried.seconds = 1; /* enough for five of them, as each runs twice at first */
    CHECK(hurried.tune() == 0);
    CHECK(hurried.order().size() >= 5 && hurried.order().size() <= 6 && hurried.now < 1.5);
    std::vector<candidate> brief(20, candidate{1, 0.01}); /* a tenth of a second is enough for these */
    for (int i = 0; i < 20; i++) brief[(size_t)i].engine = i;
    world small = with(brief);
    small.making = 0.05, small.seconds = 1;
    CHECK(small.tune() == 0 && small.now >= 0.1 && small.now < 0.25);
    world unhurried = with(many);
    CHECK(unhurried.tune() == 19);
    world first_fails = with({{1, 0}, {2, -1}, {3, 400}, {4, 1}});
    first_fails.making = 1, first_fails.seconds = 0.5; /* at least one must run, however long it takes */
    CHECK(first_fails.tune() == 2 && first_fails.made.size() == 3);

    world large = with({{1, 1, 1, 5000}, {2, 5, 1, 1000}, {3, 7, 1, 10}});
    CHECK(large.tune() == 1 && large.times_run(0) == 0);
    world all_large = with({{1, 1, 1, 5000}, {2, 5, 1, 3000}, {3, 7, 1, 4000}});
    CHECK(all_large.tune() == 1 && all_large.ran.empty()); /* the one with the smallest workspace */
}

/* While a graph is captured nothing can be timed. */
static void check_capture() {
    world captured = with({{1, -1}, {1, 9, 1, 5000}, {1, 9}, {2, 1}});
    captured.may_wait = false;
    CHECK(captured.tune() == 2 && captured.ran.empty() && captured.made.size() == 3);
}

/* ---- results on the device ---- */

template <typename S>
static std::vector<float> compared(cld_dtype dtype, std::vector<double> a, std::vector<double> b) {
    std::vector<S> first, second;
    for (double x : a) first.push_back(store<S>(x));
    for (double x : b) second.push_back(store<S>(x));
    size_t bytes = a.size() * sizeof(S);
    cld_scratch_block x, y, largest;
    std::vector<float> out(2, -1.0f);
    WORKS(cld_cuda_scratch(&x, bytes));
    WORKS(cld_cuda_scratch(&y, bytes));
    WORKS(cld_cuda_scratch(&largest, 2 * sizeof(float)));
    WORKS(cld_cuda_copy_from_host(x.data, first.data(), bytes));
    WORKS(cld_cuda_copy_from_host(y.data, second.data(), bytes));
    WORKS(cld_cuda_compare((float *)largest.data, x.data, y.data, (int64_t)a.size(), dtype));
    WORKS(cld_cuda_copy_to_host(out.data(), largest.data, 2 * sizeof(float)));
    for (cld_scratch_block *block : {&x, &y, &largest}) cld_cuda_scratch_release(block);
    return out;
}

template <typename S> static void check_comparison(cld_dtype dtype) {
    typedef std::vector<float> pair;
    std::vector<double> a(5000), b;
    for (size_t i = 0; i < a.size(); i++) a[i] = ((int)(i % 33) - 16) * 0.25;
    b = a;
    CHECK(compared<S>(dtype, a, b) == pair({0, 4}));
    b[4999] = 2.5; /* the last one, of about -0.25 * 5 */
    CHECK(compared<S>(dtype, a, b) == pair({(float)fabs(a[4999] - 2.5), 4}));
    b = a;
    b[0] = -a[0];
    CHECK(compared<S>(dtype, a, b) == pair({8, 4}));
    b = a;
    b[1234] = NAN;
    CHECK(compared<S>(dtype, a, b) == pair({INFINITY, 4}));
    CHECK(compared<S>(dtype, b, b) == pair({0, 4}));
    b[1234] = INFINITY;
    CHECK(compared<S>(dtype, b, b) == pair({0, 4}));
    CHECK(compared<S>(dtype, a, b) == pair({INFINITY, 4}));
    CHECK(compared<S>(dtype, {}, {}) == pair({0, 0}));
}

/* ---- memory ---- */

static void check_peak() {
    const cld_memory_ops *memory = &cld_cuda_memory_ops;
    void *data, *trial;
    WORKS(memory->allocate(&data, 1 << 20));
    memory->reset_peak();
    cld_memory_info before = memory->info();
    CHECK(before.peak == before.in_use && before.in_use >= (1 << 20));
    WORKS(memory->allocate(&trial, 64 << 20));
    CHECK(memory->info().peak >= before.in_use + (64 << 20));
    memory->release(trial, 64 << 20);
    cld_cuda_forget_use_since(&before);
    CHECK(memory->info().peak == before.peak);
    CHECK(memory->info().reserved == before.reserved);
    memory->release(data, 1 << 20);
    CHECK(memory->info().peak == before.peak); /* the highest value so far */
    memory->reset_peak();
    CHECK(memory->info().peak == memory->info().in_use);
}

/* ---- the table ---- */

static cld_conv_plan plan_of(int64_t n, int64_t engine) {
    cld_dnn_shape s = {CLD_BF16, n, 64, 32, 32, 128, 16, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2};
    cld_conv_plan p = cld_plan_for(CLD_DNN_WEIGHT, &s, true, 16);
    p.engine = engine;
    return p;
}

static void check_table() {
    const cld_plan_ops *plans = &cld_cuda_plans;
    int before = plans->count();
    cld_conv_plan given = plan_of(8, 5), other = plan_of(9, 6), out;
    CHECK(given.w[1] == 32 && given.params.groups == 2 && given.kind == CLD_DNN_WEIGHT && given.tf32);
    given.knob_count = 1, given.knobs[0].type = 3, given.knobs[0].value = 11;
    CHECK(!cld_plans_given(&given));
    WORKS(plans->use(&given));
    WORKS(plans->use(&other));
    CHECK(plans->count() == before + 2);
    plans->get(before, &out);
    CHECK(out.engine == 5 && out.knob_count == 1 && out.knobs[0].type == 3 && out.knobs[0].value == 11);
    cld_conv_plan wanted = plan_of(8, 0);
    CHECK(cld_plans_given(&wanted) && cld_plans_given(&wanted)->engine == 5);
    wanted.alignment = 8;
    CHECK(!cld_plans_given(&wanted));
    cld_conv_plan chosen = plan_of(8, 7), late = plan_of(8, 9);
    WORKS(cld_plans_chosen(&chosen));
    CHECK(cld_plans_given(&late)->engine == 7);
    int64_t round = cld_plans_round();
    WORKS(plans->use(&late)); /* the plan made before is no longer the one to use */
    CHECK(plans->count() == before + 2 && cld_plans_given(&chosen)->engine == 9 && cld_plans_round() > round);
    for (int i = 0; i < 500; i++) {
        cld_conv_plan many = plan_of(1000 + i, i);
        WORKS(plans->use(&many));
    }
    plans->get(before + 2 + 499, &out);
    CHECK(plans->count() == before + 502 && out.engine == 499 && out.x[0] == 1499);
    cld_conv_plan bad[] = {given, given, given, given, given};
    bad[0].kind = 3, bad[1].dtype = CLD_I64, bad[2].engine = -1, bad[3].knob_count = CLD_PLAN_KNOBS + 1;
    bad[4].knob_count = -1;
    for (const cld_conv_plan &b : bad) CHECK(plans->use(&b) == CLD_INVALID);
}

int main() {
    int devices;
    if (cld_cuda_count(&devices) != CLD_OK || cld_cuda_open(0) != CLD_OK) {
        printf("%s\n", cld_error_message());
        return 1;
    }
    check_speed();
    check_order();
    check_results();
    check_budgets();
    check_capture();
    check_comparison<float>(CLD_F32);
    check_comparison<double>(CLD_F64);
    check_comparison<bf16>(CLD_BF16);
    check_comparison<f16>(CLD_F16);
    check_peak();
    check_table();
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}
