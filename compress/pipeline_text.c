/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_text.c - from a pipeline's text to its stages and back.
 *
 * Every refusal goes through reject(), which shows the text with a caret under
 * the place. Names that stand for longer texts are replaced first; a caret in
 * what the user did not write is under the longer text, and the message says
 * so. Numbers are read and written in the C locale, whatever the process uses.
 * The canonical text parses to the same pipeline and to itself.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h> /* gp_crc32c */

#include "base/base.h"
#include "compress/families.h"
#include "compress/pipeline.h"

#define TEXT_MAX  1000
#define TOKEN_MAX 63
#define SHOW      64 /* characters of the text that a message repeats */
#define SHOWN     (3 + SHOW + 1)

typedef struct parser {
    const char *text;
    const char *at;
    const char *written; /* by the user, when not `text` */
    gp_pipeline *pipeline;
    gp_codec_shape shape;
} parser;

static gp_status reject(const parser *p, const char *at, const char *format,
                        ...) GP_PRINTF(3, 4);

/* A text, or the part of a long one about a place, fit to be printed; returns
 * the place's column in it. */
static int
show(const char *text, const char *at, char out[SHOWN])
{
    bool cut = strlen(text) > SHOW && at - text > SHOW / 2;
    const char *from = cut ? at - SHOW / 2 : text;
    size_t n = cut ? 3 : 0;

    memcpy(out, "...", n);
    for (size_t i = 0; i < SHOW && from[i]; i++)
        out[n++] = (char)(from[i] >= ' ' && from[i] <= '~' ? from[i] : '?');
    out[n] = '\0';
    return (int)(at - from) + (cut ? 3 : 0);
}

static gp_status
reject(const parser *p, const char *at, const char *format, ...)
{
    const char *text = p->written ? p->written : p->text, *name = NULL;
    size_t place = (size_t)(at - p->text);
    char reason[256], shown[SHOWN], written[SHOWN];
    va_list args;
    int column;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    if (p->written)
        name = gp_alias_place(text, place, &place);
    if (name) {
        show(text, text, written);
        column = show(p->text, at, shown);
        return gp_fail(GP_ERR_CONFIG,
                       "pipeline '%s', in what %s stands for: %s\n  %s\n  %*s^",
                       written, name, reason, shown, column, "");
    }
    column = show(text, text + place, shown);
    return gp_fail(GP_ERR_CONFIG, "pipeline, character %zu: %s\n  %s\n  %*s^",
                   place + 1, reason, shown, column, "");
}

/* The characters up to one of ":,=+" or the end, made printable. A long token
 * ends in dots, which no name and no number does. */
static size_t
take_token(parser *p, char *out)
{
    size_t length = strcspn(p->at, ":,=+"), i;

    for (i = 0; i < length && i < TOKEN_MAX; i++)
        out[i] = (char)(p->at[i] >= ' ' && p->at[i] <= '~' ? p->at[i] : '?');
    out[i] = '\0';
    if (length > TOKEN_MAX)
        memcpy(out + TOKEN_MAX - 3, "...", 3);
    p->at += length;
    return length;
}

static gp_status
reject_codec(const parser *p, const char *at, const char *name)
{
    const char *words[64], *absent = gp_codec_absent(name), *near;
    const gp_codec_ops *ops;
    size_t count = 0;

    if (absent)
        return reject(p, at, "%s", absent);
    while (count < GP_COUNT_OF(words) && (ops = gp_codec_at(count)))
        words[count++] = ops->name;
    if (gp_nearest(name, words, count, &near))
        return reject(p, at, "there is no codec '%s'; did you mean '%s'?", name,
                      near);
    return reject(p, at,
                  "there is no codec '%s'; 'gradpush info --codecs' lists them",
                  name);
}

static size_t
param_count(const gp_codec_ops *ops)
{
    size_t count = 0;

    while (ops->params && ops->params[count].name)
        count++;
    return count;
}

static gp_status
find_param(const parser *p, const char *at, const gp_codec_ops *ops,
           const char *key, size_t *index)
{
    const char *words[GP_CODEC_PARAMS], *near;
    size_t count = param_count(ops);

    for (size_t i = 0; i < count; i++) {
        words[i] = ops->params[i].name;
        if (strcmp(words[i], key) == 0) {
            *index = i;
            return GP_OK;
        }
    }
    if (gp_nearest(key, words, count, &near))
        return reject(p, at, "%s has no parameter '%s'; did you mean '%s'?",
                      ops->name, key, near);
    return reject(p, at, "%s has no parameter '%s'; its first one is '%s'",
                  ops->name, key, words[0]);
}

/* Decimal digits, a point, an exponent; '+' cannot occur, it begins a stage. */
static bool
read_number(const char *text, double *out)
{
    char *end;

    if (!*text || strspn(text, "0123456789.-eE") != strlen(text))
        return false;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static gp_status
read_word(const parser *p, const char *at, const char *token,
          const gp_codec_ops *ops, const gp_codec_param *param, double *out)
{
    const char *near;
    char list[160] = "";
    size_t count = 0, used = 0;

    for (; param->words[count]; count++) {
        if (strcmp(param->words[count], token) == 0) {
            *out = (double)count;
            return GP_OK;
        }
        if (used < sizeof(list))
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
                                     count ? ", " : "", param->words[count]);
    }
    if (gp_nearest(token, param->words, count, &near))
        return reject(p, at, "%s of %s takes %s, not '%s'; did you mean '%s'?",
                      param->name, ops->name, list, token, near);
    return reject(p, at, "%s of %s takes %s, not '%s'", param->name, ops->name,
                  list, token);
}

static gp_status
read_value(const parser *p, const char *at, const char *token,
           const gp_codec_ops *ops, size_t index, double *out)
{
    const gp_codec_param *param = &ops->params[index];
    double value;

    if (param->words)
        return read_word(p, at, token, ops, param, out);
    if (!read_number(token, &value))
        return reject(p, at, "expected a number for %s of %s, not '%s'",
                      param->name, ops->name, token);
    if (value < param->minimum || value > param->maximum)
        return reject(p, at, "%s of %s takes %g to %g, not %s", param->name,
                      ops->name, param->minimum, param->maximum, token);
    if (param->integer && value != floor(value))
        return reject(p, at, "%s of %s takes whole numbers, not %s",
                      param->name, ops->name, token);
    *out = value == 0 ? 0 : value; /* no -0 in the canonical text */
    return GP_OK;
}

/* argument = key "=" value | value */
static gp_status
read_argument(parser *p, gp_stage *stage, bool *given)
{
    const char *at = p->at;
    char token[TOKEN_MAX + 1];
    size_t length = take_token(p, token), index = 0;
    gp_status status;

    if (length == 0)
        return reject(p, at, "expected a value or key=value for %s",
                      stage->ops->name);
    if (!param_count(stage->ops))
        return reject(p, at, "%s takes no parameters", stage->ops->name);
    if (*p->at == '=') {
        status = find_param(p, at, stage->ops, token, &index);
        if (status)
            return status;
    }
    if (given[index])
        return reject(p, at, "%s of %s is given twice",
                      stage->ops->params[index].name, stage->ops->name);
    given[index] = true;
    if (*p->at == '=') {
        at = ++p->at;
        take_token(p, token);
    }
    return read_value(p, at, token, stage->ops, index, &stage->values[index]);
}

static gp_status
read_arguments(parser *p, gp_stage *stage)
{
    bool given[GP_CODEC_PARAMS] = {false};

    do {
        gp_status status;

        p->at++;
        status = read_argument(p, stage, given);
        if (status)
            return status;
    } while (*p->at == ',');
    return GP_OK;
}

/* A codec's own refusal carries its message, when it left one. */
static gp_status
open_stage(const parser *p, const char *at, gp_stage *stage)
{
    char before[256], why[256];
    gp_status status;

    if (!stage->ops->open)
        return GP_OK;
    snprintf(before, sizeof(before), "%s", gp_last_error());
    status = stage->ops->open(stage->values, &p->shape, &stage->instance);
    if (status == GP_OK || status == GP_ERR_NO_MEMORY)
        return status;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return reject(p, at, "%s refuses its parameters: %s", stage->ops->name,
                  strcmp(before, why) ? why : gp_status_text(status));
}

/* Where a kind of stage may stand; byte stages stand in two places. */
static int
place_of(const gp_codec_ops *ops)
{
    static const int places[] = {
        [GP_CODEC_FAKE] = -1,  [GP_CODEC_MEMORY] = 0,    [GP_CODEC_ZEROS] = 1,
        [GP_CODEC_SELECT] = 2, [GP_CODEC_TRANSFORM] = 3, [GP_CODEC_ARRAY] = 4,
        [GP_CODEC_BYTES] = 5,  [GP_CODEC_INDEX] = 6};

    return places[ops->kind];
}

static const gp_codec_ops *
stage_of(const gp_pipeline *pipeline, gp_codec_kind kind)
{
    for (size_t i = 0; i < pipeline->count; i++)
        if (pipeline->stages[i].ops->kind == kind)
            return pipeline->stages[i].ops;
    return NULL;
}

/* Kinds come in one order, because each works on what the one before makes. */
static gp_status
check_order(const parser *p, const char *at, const gp_codec_ops *ops)
{
    static const char *const works_on[] = {
        "remembers gradients and must come first",
        "looks at all elements and must come before a selection",
        "selects among fp32 elements and must come before what changes them",
        "turns fp32 elements and must come before what makes bytes of them",
        "takes fp32 elements and must come before byte stages",
        NULL,
        "codes the indices of one selection"};
    const gp_pipeline *pipeline = p->pipeline;
    const gp_codec_ops *last;
    int place = place_of(ops), before;

    if (pipeline->count == 0)
        return GP_OK;
    last = pipeline->stages[pipeline->count - 1].ops;
    before = place_of(last);
    if (ops->kind == GP_CODEC_BYTES)
        return GP_OK;
    if (ops->kind == GP_CODEC_ARRAY && before >= place)
        return reject(p, at,
                      "%s takes fp32 elements, but %s before it has made bytes "
                      "of them",
                      ops->name, last->name);
    if (ops->kind == GP_CODEC_FAKE)
        return reject(p, at, "fake stands before all other stages");
    if (before >= place || stage_of(pipeline, ops->kind))
        return reject(p, at, "%s %s; here it follows %s", ops->name,
                      works_on[place], last->name);
    if (ops->kind == GP_CODEC_SELECT && stage_of(pipeline, GP_CODEC_ZEROS))
        return reject(p, at,
                      "%s leaves zeros out by itself: without '%s' it is the "
                      "same and smaller",
                      ops->name, stage_of(pipeline, GP_CODEC_ZEROS)->name);
    return GP_OK;
}

static gp_status
check_index(const parser *p, const char *at, const gp_codec_ops *ops)
{
    const gp_codec_ops *select = stage_of(p->pipeline, GP_CODEC_SELECT);

    if (ops->kind != GP_CODEC_INDEX)
        return GP_OK;
    if (!select)
        return reject(p, at,
                      "%s codes the indices of a selection, and there is none: "
                      "begin with one such as 'topk:0.01'",
                      ops->name);
    if (select->imply)
        return reject(p, at,
                      "the indices of %s follow from the seed and are not "
                      "sent: leave %s out",
                      select->name, ops->name);
    return GP_OK;
}

/* Sets up the next stage with the codec's defaults, not opened yet. */
static gp_status
add_stage(const parser *p, const char *at, const gp_codec_ops *ops,
          gp_stage **out)
{
    gp_pipeline *pipeline = p->pipeline;
    gp_stage *stage = &pipeline->stages[pipeline->count];
    gp_status status;

    if (pipeline->count == GP_PIPELINE_STAGES)
        return reject(p, at, "more than %d stages", GP_PIPELINE_STAGES);
    status = check_order(p, at, ops);
    if (status == GP_OK)
        status = check_index(p, at, ops);
    if (status != GP_OK)
        return status;
    *stage = (gp_stage){.ops = ops};
    for (size_t i = 0; i < param_count(ops); i++)
        stage->values[i] = ops->params[i].value;
    *out = stage;
    return GP_OK;
}

static gp_status
finish_stage(const parser *p, const char *at, gp_stage *stage)
{
    gp_status status = open_stage(p, at, stage);

    if (status == GP_OK)
        p->pipeline->count++;
    return status;
}

/* A stage that the text leaves out. */
static gp_status
add_default(const parser *p, const char *at, const gp_codec_ops *ops)
{
    gp_stage *stage;
    gp_status status = add_stage(p, at, ops, &stage);

    return status == GP_OK ? finish_stage(p, at, stage) : status;
}

/* Bytes come from an array stage. */
static bool
needs_array(const parser *p, const gp_codec_ops *next)
{
    return (!next || next->kind == GP_CODEC_BYTES ||
            next->kind == GP_CODEC_INDEX) &&
           !stage_of(p->pipeline, GP_CODEC_ARRAY);
}

/* stage = name (":" argument ("," argument)*)? */
static gp_status
read_stage(parser *p)
{
    const char *at = p->at;
    const gp_codec_ops *ops;
    char name[TOKEN_MAX + 1];
    gp_stage *stage;
    gp_status status;

    if (take_token(p, name) == 0)
        return reject(p, at, "expected the name of a codec%s",
                      *at ? "" : "; 'none' is the one that does nothing");
    ops = gp_codec_find(name);
    if (!ops)
        return reject_codec(p, at, name);
    status = needs_array(p, ops) ? add_default(p, at, &gp_codec_none) : GP_OK;
    if (status)
        return status;
    status = add_stage(p, at, ops, &stage);
    if (status == GP_OK && *p->at == ':')
        status = read_arguments(p, stage);
    if (status)
        return status;
    if (*p->at && *p->at != '+')
        return reject(p, p->at, "expected '%s' or the end",
                      *p->at == '=' ? "," : "+");
    return finish_stage(p, at, stage);
}

static gp_status
read_stages(parser *p)
{
    gp_status status;

    for (;;) {
        status = read_stage(p);
        if (status || *p->at == '\0')
            return status;
        p->at++;
    }
}

/* Shortest text that reads back as the same number, without a '+'. */
static void
print_number(FILE *out, const gp_codec_param *param, double value)
{
    char text[40];
    char *plus;

    if (param->integer && fabs(value) < 1e15) {
        fprintf(out, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    plus = strchr(text, '+');
    if (plus)
        memmove(plus, plus + 1, strlen(plus));
    fputs(text, out);
}

static void
print_value(FILE *out, const gp_codec_param *param, double value)
{
    if (param->words)
        fputs(param->words[(size_t)value], out);
    else
        print_number(out, param, value);
}

char *
gp_pipeline_print(const gp_pipeline *pipeline)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    for (size_t i = 0; i < pipeline->count; i++) {
        const gp_stage *stage = &pipeline->stages[i];

        fprintf(out, "%s%s", i ? "+" : "", stage->ops->name);
        for (size_t j = 0; j < param_count(stage->ops); j++) {
            fprintf(out, "%c%s=", j ? ',' : ':', stage->ops->params[j].name);
            print_value(out, &stage->ops->params[j], stage->values[j]);
        }
    }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* Chains that read well and cannot be right. */
static gp_status
check_chain(const parser *p)
{
    const gp_pipeline *l = p->pipeline;
    bool prepares = gp_stage_prepares(l->array);

    if (l->memory && l->memory->ops == &gp_codec_ef &&
        l->properties & GP_CODEC_LOSSLESS)
        return reject(p, p->text,
                      "ef feeds back what is lost, and nothing here loses "
                      "anything");
    if (prepares && (l->select || l->transform))
        return reject(p, p->text,
                      "%s looks at the whole tensor before %s changes what it "
                      "will get: give it scope=chunk",
                      l->array->ops->name,
                      (l->select ? l->select : l->transform)->ops->name);
    if (prepares && l->zeros && l->array->ops->properties & GP_CODEC_WIDE)
        return reject(p, p->text,
                      "%s takes rows of a matrix, of which %s would leave out "
                      "blocks",
                      l->array->ops->name, l->zeros->ops->name);
    if (l->array->ops->propose && (l->transform || l->zeros || l->select))
        return reject(p, p->text,
                      "%s needs the same elements on all workers: nothing may "
                      "stand before it but ef",
                      l->array->ops->name);
    if (l->memory && gp_pipeline_overshoots(l))
        return reject(p, p->text,
                      "%s with a codec whose error may exceed its input grows "
                      "without bound: choose the biased variant",
                      l->memory->ops->name);
    if (l->properties & GP_CODEC_DIFFERENCE && !gp_array_contracts(l))
        return reject(p, p->text,
                      "ef21 never arrives with %s, whose error may be as large "
                      "as its input: choose a codec with a bound below 1",
                      l->array->ops->name);
    return GP_OK;
}

/* What the text leaves out, and what cannot be right as a whole. */
static gp_status
complete(const parser *p)
{
    const gp_codec_ops *select;
    gp_status status =
        needs_array(p, NULL) ? add_default(p, p->at, &gp_codec_none) : GP_OK;

    select = stage_of(p->pipeline, GP_CODEC_SELECT);
    if (status == GP_OK && select && !select->imply &&
        !stage_of(p->pipeline, GP_CODEC_INDEX))
        status = add_default(p, p->at, gp_codec_find("auto"));
    if (status != GP_OK)
        return status;
    gp_pipeline_settle(p->pipeline);
    return check_chain(p);
}

static gp_status
parse(const char *text, const gp_codec_shape *shape, gp_pipeline *pipeline)
{
    char expanded[TEXT_MAX + 1];
    parser p = {text, text, NULL, pipeline, {0, 0}};
    gp_status status;

    if (shape)
        p.shape = *shape;
    if (strlen(text) > TEXT_MAX)
        return reject(&p, text + TEXT_MAX, "longer than %d characters",
                      TEXT_MAX);
    if (!gp_alias_expand(text, expanded, sizeof(expanded)))
        return reject(&p, text + strlen(text),
                      "longer than %d characters with its names written out",
                      TEXT_MAX);
    p.text = p.at = expanded;
    p.written = strcmp(text, expanded) == 0 ? NULL : text;
    status = read_stages(&p);
    if (status == GP_OK)
        status = complete(&p);
    if (status)
        return status;
    pipeline->name = gp_pipeline_print(pipeline);
    if (!pipeline->name)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a pipeline");
    pipeline->id = gp_crc32c(0, pipeline->name, strlen(pipeline->name));
    return GP_OK;
}

static gp_status
parse_in_c_locale(const char *text, const gp_codec_shape *shape,
                  gp_pipeline *pipeline)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before;
    gp_status status;

    if (!c)
        return gp_fail_errno(GP_ERR_NO_MEMORY, errno, "the C locale");
    before = uselocale(c);
    status = parse(text, shape, pipeline);
    uselocale(before);
    freelocale(c);
    return status;
}

gp_status
gp_pipeline_open(const char *text, const gp_codec_shape *shape,
                 gp_pipeline **out)
{
    gp_pipeline *pipeline;
    gp_status status;

    if (!text || !out)
        return gp_fail(GP_ERR_INVALID, "gp_pipeline_open: NULL argument");
    pipeline = calloc(1, sizeof(*pipeline));
    if (!pipeline)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a pipeline");
    status = parse_in_c_locale(text, shape, pipeline);
    if (status) {
        gp_pipeline_destroy(pipeline);
        return status;
    }
    *out = pipeline;
    return GP_OK;
}

gp_status
gp_pipeline_parse(const char *text, gp_pipeline **out)
{
    return gp_pipeline_open(text, NULL, out);
}

void
gp_pipeline_destroy(gp_pipeline *pipeline)
{
    if (!pipeline)
        return;
    for (size_t i = 0; i < pipeline->count; i++)
        if (pipeline->stages[i].ops->close)
            pipeline->stages[i].ops->close(pipeline->stages[i].instance);
    free(pipeline->name);
    free(pipeline);
}

const char *
gp_pipeline_name(const gp_pipeline *pipeline)
{
    return pipeline->name;
}

uint32_t
gp_pipeline_id(const gp_pipeline *pipeline)
{
    return pipeline->id;
}

uint32_t
gp_pipeline_needs(const gp_pipeline *pipeline)
{
    return pipeline->needs;
}

uint32_t
gp_pipeline_properties(const gp_pipeline *pipeline)
{
    return pipeline->properties;
}
