/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info.c - `gradpush info`: what this build and this machine have.
 *
 * Every section prints text, or fills the JSON document when there is one, from
 * the same tables that the library uses. Secrets appear as "(set)".
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/codec.h>
#include <gradpush/transport.h>
#include <gradpush/version.h>

#include "base/base.h"
#include "device/device.h"
#include "direct.h"
#include "info_rdma.h"
#include "json.h"
#include "rendezvous/rendezvous.h"
#include "tool.h"

#define SHOW_CONFIG     0x01u
#define SHOW_TRANSPORTS 0x02u
#define SHOW_CODECS     0x04u
#define SHOW_DEVICES    0x08u
#define SHOW_ENV        0x10u
#define SHOW_ALL        0x1fu

typedef struct gp_info {
    unsigned show;
    const char *json;
    gp_config *config;
    gp_json *document; /* NULL: text */
} gp_info;

static const gp_option options[] = {
    {"config", 'c', NULL, "settings: value, where it came from, meaning"},
    {"transports", 't', NULL, "transports, and whether they can run here"},
    {"codecs", 'k', NULL, "codecs with their parameters and properties"},
    {"devices", 'd', NULL, "host, CUDA and RDMA devices"},
    {"env", 'e', NULL, "the place in a job that the environment describes"},
    {"json", 'j', "FILE", "write a JSON document; - is standard output"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush info",
    "[options]",
    "Shows what this build and this machine have. Without an option, "
    "everything.",
    "  gradpush info --config\n  gradpush info --json - | jq .transports",
    options,
    false,
};

static bool
apply(void *user, int key, const char *value)
{
    gp_info *info = user;

    if (key == 'j') {
        info->json = value;
        return gp_json_available();
    }
    for (unsigned i = 0; options[i].key != 'j'; i++)
        if (options[i].key == key)
            info->show |= 1u << i;
    return true;
}

static void
heading(const gp_info *info, const char *text)
{
    if (!info->document)
        printf("\n# %s\n", text);
}

static void
variable_name(const char *field, char *out, size_t capacity)
{
    snprintf(out, capacity, "GRADPUSH_%s", field);
    for (char *p = out; *p; p++)
        *p = (char)toupper((unsigned char)*p);
}

static const char *
type_name(const gp_config_field *field)
{
    static const char *const names[] = {"text",    "number",  "bytes",
                                        "seconds", "boolean", NULL};

    return field->choices ? field->choices : names[field->type];
}

static void
show_setting(const gp_info *info, gp_json *list, const gp_config_field *field)
{
    const char *value = gp_config_get(info->config, field->name);
    const char *origin = gp_config_origin(info->config, field->name);
    char variable[80];

    if (field->secret && *value)
        value = "(set)";
    variable_name(field->name, variable, sizeof(variable));
    if (info->document) {
        gp_json *o = gp_json_object(list, NULL);

        gp_json_text(o, "name", field->name);
        gp_json_text(o, "variable", variable);
        gp_json_text(o, "type", type_name(field));
        gp_json_text(o, "default", field->value);
        gp_json_text(o, "value", value);
        gp_json_text(o, "origin", origin);
        gp_json_text(o, "text", field->text);
        return;
    }
    printf("%-28s %-12s %-12s %s (%s)\n", variable, *value ? value : "\"\"",
           origin, field->text, type_name(field));
}

static void
show_config(const gp_info *info)
{
    gp_json *list = gp_json_array(info->document, "config");

    heading(info, "variable                   value        from         meaning"
                  " (takes)");
    for (const gp_config_field *f = gp_config_fields(); f->name; f++)
        show_setting(info, list, f);
}

static void
show_transports(const gp_info *info)
{
    gp_json *list = gp_json_array(info->document, "transports");
    const gp_transport_ops *ops;

    heading(info, "transport  usable  what");
    for (size_t i = 0; (ops = gp_transport_at(i)); i++) {
        char why[256] = "";
        bool usable = ops->probe(info->config, why, sizeof(why)) == GP_OK;

        if (info->document) {
            gp_json *o = gp_json_object(list, NULL);

            gp_json_text(o, "name", ops->name);
            gp_json_bool(o, "usable", usable);
            gp_json_text(o, "reason", why);
            gp_json_text(o, "text", ops->text);
            gp_json_bool(o, "local", ops->caps & GP_CAP_LOCAL);
            gp_json_bool(o, "registered", ops->caps & GP_CAP_REGISTERED);
            gp_json_bool(o, "checksum", ops->caps & GP_CAP_CHECKSUM);
            gp_json_bool(o, "device", ops->caps & GP_CAP_DEVICE);
        } else {
            printf("%-10s %-7s %s%s%s%s\n", ops->name, usable ? "yes" : "no",
                   ops->text, *why ? " (" : "", why, *why ? ")" : "");
        }
    }
}

static const struct {
    uint32_t bit;
    const char *name;
} properties[] = {
    {GP_CODEC_LOSSLESS, "lossless"},   {GP_CODEC_UNBIASED, "unbiased"},
    {GP_CODEC_CONTRACTS, "contracts"}, {GP_CODEC_FIXED_RATE, "fixed-rate"},
    {GP_CODEC_LINEAR, "linear"},
};

static const char *
kind_name(gp_codec_kind kind)
{
    static const char *const names[] = {
        [GP_CODEC_ARRAY] = "array",    [GP_CODEC_BYTES] = "bytes",
        [GP_CODEC_SELECT] = "select",  [GP_CODEC_INDEX] = "index",
        [GP_CODEC_TRANSFORM] = "turn", [GP_CODEC_MEMORY] = "memory",
        [GP_CODEC_ZEROS] = "zeros",    [GP_CODEC_FAKE] = "fake"};

    return names[kind];
}

/* Of a codec with its defaults; parameters can change them. */
static uint32_t
usual_properties(const gp_codec_ops *ops)
{
    const gp_codec_shape shape = {0, 0};
    uint32_t usual = ops->properties;
    double values[64] = {0};
    void *instance = NULL;

    if (!ops->properties_of)
        return usual;
    for (size_t i = 0; ops->params && ops->params[i].name && i < 64; i++)
        values[i] = ops->params[i].value;
    if (ops->open && ops->open(values, &shape, &instance) != GP_OK)
        return usual;
    usual = ops->properties_of(instance);
    if (ops->close)
        ops->close(instance);
    return usual;
}

static void
param_json(gp_json *list, const gp_codec_param *p)
{
    gp_json *one = gp_json_object(list, NULL);
    gp_json *words;

    gp_json_text(one, "name", p->name);
    if (p->words) {
        gp_json_text(one, "default", p->words[(size_t)p->value]);
        words = gp_json_array(one, "words");
        for (size_t i = 0; p->words[i]; i++)
            gp_json_text(words, NULL, p->words[i]);
    } else {
        gp_json_real(one, "default", p->value);
        gp_json_real(one, "minimum", p->minimum);
        gp_json_real(one, "maximum", p->maximum);
    }
    gp_json_text(one, "text", p->text);
}

static void
codec_json(gp_json *list, const gp_codec_ops *ops)
{
    gp_json *o = gp_json_object(list, NULL);
    uint32_t usual = usual_properties(ops);
    gp_json *names, *params;

    gp_json_text(o, "name", ops->name);
    gp_json_text(o, "kind", kind_name(ops->kind));
    gp_json_text(o, "text", ops->text);
    gp_json_text(o, "nonfinite",
                 ops->nonfinite == GP_NONFINITE_EXACT ? "exact" : "propagate");
    names = gp_json_array(o, "properties");
    for (size_t i = 0; i < GP_COUNT_OF(properties); i++)
        if (usual & properties[i].bit)
            gp_json_text(names, NULL, properties[i].name);
    params = gp_json_array(o, "parameters");
    for (const gp_codec_param *p = ops->params; p && p->name; p++)
        param_json(params, p);
}

static void
param_text(const gp_codec_param *p)
{
    printf("%16s %s=", "", p->name);
    if (p->words) {
        printf("%s (", p->words[(size_t)p->value]);
        for (size_t i = 0; p->words[i]; i++)
            printf("%s%s", i ? ", " : "", p->words[i]);
        printf("): %s\n", p->text);
    } else {
        printf("%g (%g to %g): %s\n", p->value, p->minimum, p->maximum,
               p->text);
    }
}

static void
codec_text(const gp_codec_ops *ops)
{
    uint32_t usual = usual_properties(ops);

    printf("%-14s %-6s %s", ops->name, kind_name(ops->kind), ops->text);
    for (size_t i = 0, n = 0; i < GP_COUNT_OF(properties); i++)
        if (usual & properties[i].bit)
            printf("%s%s", n++ ? " " : "; ", properties[i].name);
    if (ops->kind == GP_CODEC_ARRAY)
        printf("; NaN and Inf %s", ops->nonfinite == GP_NONFINITE_EXACT
                                       ? "come out as they went in"
                                       : "turn their block into NaN");
    printf("\n");
    for (const gp_codec_param *p = ops->params; p && p->name; p++)
        param_text(p);
}

static void
show_aliases(const gp_info *info)
{
    gp_json *list = gp_json_array(info->document, "aliases");
    const char *name, *text, *what;

    heading(info, "name   stands for; whose mathematics");
    for (size_t i = 0; (name = gp_codec_alias_at(i, &text, &what)); i++) {
        gp_json *o = gp_json_object(list, NULL);

        gp_json_text(o, "name", name);
        gp_json_text(o, "stands_for", text);
        gp_json_text(o, "text", what);
        if (!info->document)
            printf("%-18s %s; %s\n", name, text, what);
    }
}

static void
show_codecs(const gp_info *info)
{
    gp_json *list = gp_json_array(info->document, "codecs");
    const gp_codec_ops *ops;

    heading(info, "codec          kind   what; properties with the defaults");
    for (size_t i = 0; (ops = gp_codec_at(i)); i++) {
        if (info->document)
            codec_json(list, ops);
        else
            codec_text(ops);
    }
    show_aliases(info);
}

/* By which way RDMA devices reach its memory; where there are none, why. */
static void
show_direct(const gp_info *info, gp_json *device, uint32_t index)
{
    gp_direct_pair pairs[GP_DIRECT_PAIRS];
    gp_json *list = gp_json_array(device, "gpudirect");
    size_t count = 0;

    if (gp_direct_try(info->config, index, pairs, GP_DIRECT_PAIRS, &count) !=
        GP_OK) {
        gp_json_text(device, "gpudirect_reason", gp_last_error());
        if (!info->document)
            printf("%-6s GPUDirect: %s\n", "", gp_last_error());
        return;
    }
    for (size_t i = 0; i < count; i++) {
        gp_json *o = gp_json_object(list, NULL);

        gp_json_text(o, "way", gp_direct_name(pairs[i].way));
        gp_json_text(o, "text", pairs[i].text);
        if (!info->document)
            printf("%-6s GPUDirect between %s\n", "", pairs[i].text);
    }
}

static void
show_device(const gp_info *info, gp_json *list, const gp_device_ops *ops,
            uint32_t index)
{
    gp_device_properties p;
    gp_device *device = NULL;
    gp_json *o;

    if (ops->open(index, &device) != GP_OK) {
        if (!info->document)
            printf("%-6s %s\n", ops->kind, gp_last_error());
        return;
    }
    ops->properties(device, &p);
    gp_device_close(device);
    o = gp_json_object(list, NULL);
    gp_json_text(o, "kind", ops->kind);
    gp_json_int(o, "index", p.index);
    gp_json_text(o, "text", p.name);
    gp_json_int(o, "memory_bytes", (int64_t)p.memory_bytes);
    if (!info->document)
        printf("%-6s %u: %s, %.1f GB of memory\n", ops->kind, p.index, p.name,
               (double)p.memory_bytes / 1e9);
    if (ops == &gp_device_cuda)
        show_direct(info, o, index);
}

static void
show_kind(const gp_info *info, gp_json *list, const gp_device_ops *ops)
{
    uint32_t count = 0;
    const char *why = "none";

    if (ops->count(&count) != GP_OK)
        why = gp_last_error();
    if (!count && !info->document)
        printf("%-6s %s\n", ops->kind, why);
    for (uint32_t i = 0; i < count; i++)
        show_device(info, list, ops, i);
}

static void
show_devices(const gp_info *info)
{
    gp_json *list = gp_json_array(info->document, "devices");

    heading(info, "kind   device");
    show_kind(info, list, &gp_device_host);
    show_kind(info, list, &gp_device_cuda);
    gp_info_rdma(info->config, NULL, info->document, list);
}

static void
show_number(const gp_info *info, gp_json *o, const char *name, int64_t value)
{
    if (value >= 0)
        gp_json_int(o, name, value);
    if (!info->document && value >= 0)
        printf("%-12s %lld\n", name, (long long)value);
    if (!info->document && value < 0)
        printf("%-12s not known\n", name);
}

static void
show_text(const gp_info *info, gp_json *o, const char *name, const char *value)
{
    gp_json_text(o, name, value);
    if (!info->document)
        printf("%-12s %s\n", name, *value ? value : "not known");
}

/* A wrong variable is what this section is for: it is shown, not fatal. */
static void
show_env(const gp_info *info)
{
    gp_json *o = gp_json_object(info->document, "job");
    gp_job job;

    heading(info, "place in the job");
    if (gp_job_detect(info->config, NULL, &job) != GP_OK) {
        show_text(info, o, "error", gp_last_error());
        return;
    }
    show_text(info, o, "launcher", job.launcher);
    show_text(info, o, "job", job.job);
    show_number(info, o, "rank", job.rank);
    show_number(info, o, "size", job.size);
    show_number(info, o, "local_rank", job.local_rank);
    show_number(info, o, "local_size", job.local_size);
    show_number(info, o, "shards", job.shards);
    show_number(info, o, "incarnation", (int64_t)job.incarnation);
    show_text(info, o, "store", job.store);
    show_text(info, o, "store_host", job.host_store ? "here" : "elsewhere");
}

static void
show(const gp_info *info)
{
    static void (*const sections[])(const gp_info *) = {
        show_config, show_transports, show_codecs, show_devices, show_env};

    if (info->document) {
        gp_json_text(info->document, "version", gp_version());
        gp_json_environment(info->document);
    } else {
        printf("# gradpush %s\n", gp_version());
    }
    for (size_t i = 0; i < GP_COUNT_OF(sections); i++)
        if (info->show & (1u << i))
            sections[i](info);
}

int
gp_info_main(int argc, char **argv)
{
    gp_info info = {0, NULL, NULL, NULL};
    int rc = gp_options_parse(&usage, argc, argv, apply, &info);
    gp_status status;

    if (rc != GP_EXIT_NONE)
        return rc;
    if (!info.show)
        info.show = SHOW_ALL;
    status = gp_config_create(&info.config);
    if (status == GP_OK) {
        info.document = info.json ? gp_json_create("gradpush.info/1") : NULL;
        show(&info);
        if (info.json)
            status = gp_json_write(info.document, info.json);
    }
    if (status != GP_OK)
        gp_say("%s", gp_last_error());
    gp_json_destroy(info.document);
    gp_config_destroy(info.config);
    return status == GP_OK ? GP_EXIT_OK : GP_EXIT_FAILURE;
}
