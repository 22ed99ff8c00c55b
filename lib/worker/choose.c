/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.c - which alternative of its push pipelines a tensor uses in a step.
 *
 * Workers need not agree: a push says what it went through. Alternative 0 is
 * the dense one wherever there is a warm-up or codec=auto.
 */
#include <stdio.h>
#include <string.h>

#include "worker/policy.h"
#include "worker/worker_int.h"

/* Dense comes first, then what the text says. */
static gp_status
with_dense(const char *text, char *out, size_t capacity)
{
    int n = snprintf(out, capacity, "none|%s", text);

    if (n < 0 || (size_t)n >= capacity)
        return gp_fail(GP_ERR_CONFIG, "codec '%.100s...' is too long", text);
    return GP_OK;
}

static gp_status
check_rule(void *user, const char *rule, const char *pipeline)
{
    char why[512];

    (void)user;
    if (gp_codec_check(pipeline) == GP_OK)
        return GP_OK;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(GP_ERR_CONFIG, "codec_rules, rule '%.80s': %s", rule, why);
}

/* A fault in a rule that holds for no tensor is one all the same. */
static gp_status
check_rules(gp_worker *w)
{
    gp_status status = GP_OK;

    if (!w->rules_checked)
        status = gp_policy_each(gp_config_get(w->config, "codec_rules"),
                                check_rule, NULL);
    w->rules_checked = status == GP_OK;
    return status;
}

static gp_status
warn_unused(void *user, const char *rule, const char *pipeline)
{
    const gp_worker *w = user;
    char out[GP_POLICY_RULE_MAX];

    (void)pipeline;
    for (uint32_t i = 0; i < w->tensors; i++) {
        const gp_tensor_spec *spec = &w->tensor[i]->spec;
        gp_status status = gp_policy_rule(rule, spec->name, spec->count,
                                          spec->columns, out, sizeof(out));

        if (status != GP_OK || out[0])
            return status;
    }
    GP_WARN("codec_rules: the rule '%.200s' holds for none of %u tensors", rule,
            w->tensors);
    return GP_OK;
}

gp_status
gp_worker_check_rules(gp_worker *w)
{
    const char *rules = gp_config_get(w->config, "codec_rules");

    return gp_policy_each(rules, warn_unused, w);
}

/* Dense steps and differences cannot be mixed. */
static gp_status
check_dense_begin(const char *text, const char *what)
{
    const gp_codec_shape shape = {0, 0};
    gp_codec_set set = {0};
    gp_status status = gp_codec_set_open(text, "none", &shape, &set);
    bool differs = status == GP_OK && gp_codec_set_differs(&set);

    gp_codec_set_close(&set);
    if (differs)
        return gp_fail(GP_ERR_CONFIG,
                       "codec '%.100s': ef21 and %s cannot be combined, "
                       "because ef21 sends differences from the first step on "
                       "and %s begins with dense steps",
                       text, what, what);
    return status;
}

static gp_status
add_dense(gp_worker *w, gp_tensor *t, char *out, size_t capacity)
{
    const char *candidates = gp_config_get(w->config, "codec_candidates");
    uint64_t warmup = (uint64_t)gp_config_int(w->config, "codec_warmup");
    char text[GP_CODECS_MAX];
    gp_status status;

    t->automatic = strcmp(out, "auto") == 0;
    if (!t->automatic && warmup == 0)
        return GP_OK;
    snprintf(text, sizeof(text), "%s", t->automatic ? candidates : out);
    status = check_dense_begin(text, t->automatic ? "auto" : "codec_warmup");
    if (status != GP_OK)
        return status;
    t->warmup = t->automatic ? 0 : warmup;
    return with_dense(text, out, capacity);
}

gp_status
gp_tensor_push_text(gp_worker *w, const gp_tensor_options *o, gp_tensor *t,
                    char *out, size_t capacity)
{
    const char *text = o->codec;
    gp_status status = check_rules(w);

    if (status == GP_OK)
        status = gp_policy_rule(gp_config_get(w->config, "codec_rules"),
                                o->name, o->count, o->columns, out, capacity);
    if (status != GP_OK)
        return status;
    if (!text && out[0] == '\0')
        text = gp_config_get(w->config, "codec");
    if (text && strlen(text) >= capacity)
        return gp_fail(GP_ERR_CONFIG, "codec '%.100s...' is too long", text);
    if (text)
        strcpy(out, text);
    return add_dense(w, t, out, capacity);
}

gp_status
gp_codec_check(const char *text)
{
    const gp_codec_shape shape = {0, 0};
    gp_codec_set set = {0};
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_INVALID, "gp_codec_check: NULL");
    if (strcmp(text, "auto") == 0)
        return GP_OK;
    status = gp_codec_set_open(text, "none", &shape, &set);
    gp_codec_set_close(&set);
    return status;
}

uint32_t
gp_tensor_choose(gp_tensor *t, uint64_t step)
{
    uint32_t preferred =
        atomic_load_explicit(&t->preferred, memory_order_relaxed);

    if (step < t->warmup)
        return 0;
    return GP_MIN(preferred, t->push.count - 1);
}

void
gp_tensor_prefer(gp_tensor *t, uint32_t alternative)
{
    atomic_store_explicit(&t->preferred, alternative, memory_order_relaxed);
}

const char *
gp_tensor_codec(const gp_tensor *t)
{
    uint32_t preferred =
        t ? atomic_load_explicit(&t->preferred, memory_order_relaxed) : 0;

    if (!t)
        return NULL;
    return gp_pipeline_name(
        t->push.pipeline[GP_MIN(preferred, t->push.count - 1)]);
}

/* ---- codec=auto ------------------------------------------------------- */

/* Of a tensor measured before, with the same pipelines on as many elements. */
static bool
copy_costs(const gp_worker *w, gp_tensor *t)
{
    for (uint32_t i = 0; i < t->index; i++) {
        const gp_tensor *other = w->tensor[i];

        if (!other->automatic || strcmp(other->spec.push, t->spec.push) != 0 ||
            gp_auto_sized(other->spec.count) != gp_auto_sized(t->spec.count))
            continue;
        memcpy(t->cost, other->cost, sizeof(t->cost));
        return true;
    }
    return false;
}

gp_status
gp_worker_measure(gp_worker *w)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < w->tensors && status == GP_OK; i++) {
        gp_tensor *t = w->tensor[i];

        if (!t->automatic || copy_costs(w, t))
            continue;
        w->automatic.phase = GP_AUTO_DENSE;
        /* The dense one sends the user's memory as it is. */
        t->cost[0].bytes = (double)gp_dtype_bytes((gp_dtype)t->spec.dtype);
        for (uint32_t j = 1; j < t->push.count && status == GP_OK; j++)
            status = gp_auto_measure(t->push.pipeline[j], t->spec.count,
                                     &t->cost[j]);
    }
    return status;
}

/* The alternative with the shortest push, and the time of each. */
static uint32_t
find_best(const gp_worker *w, const gp_tensor *t,
          double seconds[GP_CODEC_SET_MAX])
{
    double decodes = (double)w->size / w->shards;

    return gp_policy_best(t->cost, t->push.count, t->spec.count,
                          w->automatic.rate, decodes, seconds);
}

bool
gp_tensor_explain(const gp_tensor *t, uint64_t step, char *out, size_t capacity)
{
    const gp_auto *a = &t->worker->automatic;
    double seconds[GP_CODEC_SET_MAX] = {0};
    uint32_t chosen = GP_MIN(t->preferred, t->push.count - 1);

    if (step < t->warmup)
        snprintf(out, capacity, "warm-up until step %llu",
                 (unsigned long long)t->warmup);
    else if (!t->automatic)
        return false;
    else if (a->gave_up)
        snprintf(out, capacity,
                 "auto: no codec paid, it moved less than dense");
    else if (a->phase != GP_AUTO_CHOSEN)
        snprintf(out, capacity, "auto: measuring the link");
    else {
        (void)find_best(t->worker, t, seconds);
        snprintf(out, capacity,
                 "auto: %.3g ms a push, dense %.3g ms (link %.3g MB/s)",
                 seconds[chosen] * 1e3, seconds[0] * 1e3, a->rate * 1e-6);
    }
    return true;
}

static void
decide_one(gp_worker *w, gp_tensor *t)
{
    double seconds[GP_CODEC_SET_MAX] = {0};
    uint32_t best = 0;

    if (w->automatic.rate > 0)
        best = find_best(w, t, seconds);
    gp_tensor_prefer(t, best);
    if (t->push.count > 1 && w->automatic.rate > 0 && best == 0)
        GP_INFO("codec auto: tensor '%.60s' goes through none: %.3g ms a push, "
                "nothing else is clearly faster (link %.3g MB/s)",
                t->spec.name, seconds[0] * 1e3, w->automatic.rate * 1e-6);
    else if (best > 0)
        GP_INFO("codec auto: tensor '%.60s' goes through %s: %.3g ms a push, "
                "dense %.3g ms (link %.3g MB/s, encode %.3g GB/s, decode %.3g "
                "GB/s)",
                t->spec.name, gp_pipeline_name(t->push.pipeline[best]),
                seconds[best] * 1e3, seconds[0] * 1e3, w->automatic.rate * 1e-6,
                4e-9 / t->cost[best].encode, 4e-9 / t->cost[best].decode);
}

/* One line for people; the tensors' own are for those who ask for them. */
static void
decide(gp_worker *w)
{
    uint32_t coded = 0, all = 0;

    for (uint32_t i = 0; i < w->tensors; i++) {
        gp_tensor *t = w->tensor[i];

        if (!t->automatic)
            continue;
        decide_one(w, t);
        all++;
        coded += t->preferred > 0;
    }
    w->automatic.coded = coded > 0;
    if (w->automatic.gave_up)
        GP_WARN("codec auto: what was chosen moved %.3g GB/s of gradients, "
                "dense %.3g GB/s: compression does not pay here, all tensors "
                "go dense",
                w->automatic.chosen_speed * 1e-9,
                w->automatic.dense_speed * 1e-9);
    else if (w->automatic.rate > 0 && coded == 0)
        GP_INFO("codec auto: nothing pays at %.3g MB/s, all tensors go dense",
                w->automatic.rate * 1e-6);
    else if (w->automatic.rate > 0)
        GP_INFO("codec auto: %u of %u tensors are compressed at %.3g MB/s",
                coded, all, w->automatic.rate * 1e-6);
}

static gp_auto_sample
sample(const gp_worker *w)
{
    return (gp_auto_sample){.now_ns = gp_clock_ns(),
                            .pushed = atomic_load(&w->bytes_pushed),
                            .plain = atomic_load(&w->plain_pushed)};
}

void
gp_worker_busy(gp_worker *w)
{
    if (w->automatic.phase != GP_AUTO_OFF) {
        gp_auto_sample s = sample(w);

        gp_auto_begin(&w->automatic, &s);
    }
}

void
gp_worker_idle(gp_worker *w)
{
    if (w->automatic.phase != GP_AUTO_OFF) {
        gp_auto_sample s = sample(w);

        if (gp_auto_end(&w->automatic, &s))
            decide(w);
    }
}
