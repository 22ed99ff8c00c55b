/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value.c - reads the text of configuration fields.
 *
 * strtod() and isdigit() follow the locale that the trainer has set, so
 * numbers are read here digit by digit.
 */
#include "base/config_value.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CHOICES_MAX     16
#define CHOICE_TEXT_MAX 128

/* Decimal digits at *at; false for none or when the value does not fit. */
static bool
read_digits(const char **at, uint64_t *out, int *digits)
{
    uint64_t value = 0;
    int count = 0;

    for (; **at >= '0' && **at <= '9'; (*at)++, count++)
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**at - '0'), &value))
            return false;
    *out = value;
    *digits = count;
    return count > 0;
}

bool
gp_value_int(const gp_config_field *field, const char *text, int64_t *out)
{
    bool negative = *text == '-';
    const char *at = text + negative;
    uint64_t value;
    int digits;

    if (!read_digits(&at, &value, &digits) || *at || value > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return (double)*out >= field->minimum && (double)*out <= field->maximum;
}

bool
gp_value_size(const gp_config_field *field, const char *text, uint64_t *out)
{
    const char *letters = "KMG", *letter;
    uint64_t value;
    int digits, shift = 0;

    if (!read_digits(&text, &value, &digits))
        return false;
    if (*text) {
        letter = strchr(letters, *text & ~0x20);
        if (!letter || !*letter || text[1])
            return false;
        shift = 10 * (int)(letter - letters + 1);
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *out = value << shift;
    return (double)*out >= field->minimum && (double)*out <= field->maximum;
}

/* Divisors and not factors: 50 / 1e6 is the double nearest to 50e-6, while
 * 50 * 1e-6 need not be. */
static bool
read_unit(const char *unit, double *factor, double *divisor)
{
    static const struct {
        const char *name;
        double factor, divisor;
    } units[] = {{"", 1, 1},     {"s", 1, 1},  {"ms", 1, 1e3},
                 {"us", 1, 1e6}, {"m", 60, 1}, {"h", 3600, 1}};

    for (size_t i = 0; i < GP_COUNT_OF(units); i++)
        if (!strcmp(unit, units[i].name)) {
            *factor = units[i].factor;
            *divisor = units[i].divisor;
            return true;
        }
    return false;
}

bool
gp_value_seconds(const gp_config_field *field, const char *text, double *out)
{
    uint64_t whole, fraction = 0;
    int digits, decimals = 0;
    double factor, divisor, scale = 1, value;

    if (!read_digits(&text, &whole, &digits))
        return false;
    if (*text == '.') {
        text++;
        if (!read_digits(&text, &fraction, &decimals) || decimals > 9)
            return false;
    }
    if (!read_unit(text, &factor, &divisor) || whole > 1000000000u)
        return false;
    for (int i = 0; i < decimals; i++)
        scale *= 10;
    value =
        ((double)whole * scale + (double)fraction) * factor / (scale * divisor);
    *out = value;
    return value >= field->minimum && value <= field->maximum;
}

bool
gp_value_bool(const char *text, int *out)
{
    static const char *const words[] = {"0",   "1",  "no",    "yes",
                                        "off", "on", "false", "true"};

    for (size_t i = 0; i < GP_COUNT_OF(words); i++)
        if (!strcasecmp(text, words[i])) {
            *out = (int)(i % 2);
            return true;
        }
    return false;
}

/* Cuts "auto|on|off" into words that lie in `text`. */
static size_t
split_choices(const char *choices, char text[CHOICE_TEXT_MAX],
              const char *words[CHOICES_MAX])
{
    char *rest = text, *word;
    size_t count = 0;

    snprintf(text, CHOICE_TEXT_MAX, "%s", choices);
    while (count < CHOICES_MAX && (word = strsep(&rest, "|")))
        words[count++] = word;
    return count;
}

static bool
is_choice(const char *choices, const char *text)
{
    char copy[CHOICE_TEXT_MAX];
    const char *words[CHOICES_MAX];
    size_t count = split_choices(choices, copy, words);

    for (size_t i = 0; i < count; i++)
        if (!strcmp(words[i], text))
            return true;
    return false;
}

bool
gp_value_valid(const gp_config_field *field, const char *text)
{
    int64_t number;
    uint64_t size;
    double seconds;
    int truth;

    switch (field->type) {
    case GP_CONFIG_STRING:
        return strlen(text) <= GP_CONFIG_VALUE_MAX;
    case GP_CONFIG_INT:
        return gp_value_int(field, text, &number);
    case GP_CONFIG_SIZE:
        return gp_value_size(field, text, &size);
    case GP_CONFIG_SECONDS:
        return gp_value_seconds(field, text, &seconds);
    case GP_CONFIG_BOOL:
        return gp_value_bool(text, &truth);
    case GP_CONFIG_ENUM:
        return is_choice(field->choices, text);
    }
    return false;
}

/* 16384 as "16K". */
static void
print_size(double bytes, char *out, size_t capacity)
{
    unsigned long long value = (unsigned long long)bytes;
    size_t step = 0;

    while (step < 3 && value && value % 1024 == 0) {
        value /= 1024;
        step++;
    }
    snprintf(out, capacity, "%llu%.*s", value, step ? 1 : 0,
             &"KMG"[step ? step - 1 : 0]);
}

/* 0.001 as "1ms"; the limits of the table have no finer parts. */
static void
print_seconds(double seconds, char *out, size_t capacity)
{
    if (seconds > 0 && seconds < 1)
        snprintf(out, capacity, "%lldms", (long long)(seconds * 1e3 + 0.5));
    else
        snprintf(out, capacity, "%llds", (long long)seconds);
}

void
gp_value_takes(const gp_config_field *field, char *out, size_t capacity)
{
    char low[32], high[32];

    switch (field->type) {
    case GP_CONFIG_STRING:
        snprintf(out, capacity, "takes text of at most %u bytes",
                 GP_CONFIG_VALUE_MAX);
        break;
    case GP_CONFIG_INT:
        snprintf(out, capacity, "takes a whole number from %lld to %lld",
                 (long long)field->minimum, (long long)field->maximum);
        break;
    case GP_CONFIG_SIZE:
        print_size(field->minimum, low, sizeof(low));
        print_size(field->maximum, high, sizeof(high));
        snprintf(out, capacity, "takes a size from %s to %s, such as 256K", low,
                 high);
        break;
    case GP_CONFIG_SECONDS:
        print_seconds(field->minimum, low, sizeof(low));
        print_seconds(field->maximum, high, sizeof(high));
        snprintf(out, capacity, "takes a time from %s to %s, such as %s", low,
                 high, field->value);
        break;
    case GP_CONFIG_BOOL:
        snprintf(out, capacity, "takes on or off");
        break;
    case GP_CONFIG_ENUM:
        snprintf(out, capacity, "takes one of %s", field->choices);
        break;
    }
}

bool
gp_value_nearest(const gp_config_field *field, const char *text, char *out,
                 size_t capacity)
{
    char copy[CHOICE_TEXT_MAX];
    const char *words[CHOICES_MAX], *word;

    if (field->type != GP_CONFIG_ENUM ||
        !gp_nearest(text, words, split_choices(field->choices, copy, words),
                    &word))
        return false;
    snprintf(out, capacity, "%s", word);
    return true;
}
