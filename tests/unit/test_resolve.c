/* SPDX-License-Identifier: Apache-2.0 */
/* test_resolve.c - addresses of transports, one or several in a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "transports/address.h"

/* What a text stands for, with blanks between. */
static void
assert_stands_for(const char *text, const char *expected)
{
    gp_address list[GP_ADDRESSES_MAX];
    char out[GP_ADDRESSES_MAX * 64] = "", name[64];
    size_t count = 0;

    assert_int_equal(
        gp_address_resolve(text, false, list, GP_COUNT_OF(list), &count),
        GP_OK);
    for (size_t i = 0; i < count; i++) {
        gp_address_name(&list[i].name, name, sizeof(name));
        strcat(out, i ? " " : "");
        strcat(out, name);
    }
    assert_string_equal(out, expected);
}

static void
one_or_several(void **state)
{
    (void)state;
    assert_stands_for("10.0.0.2:4711", "10.0.0.2:4711");
    assert_stands_for("10.0.0.2:1|[fd00::2]:2", "10.0.0.2:1 [fd00::2]:2");
    assert_stands_for("10.0.0.2:1|10.0.0.2:1", "10.0.0.2:1 10.0.0.2:1");
    assert_true(gp_address_several("10.0.0.2:1|[fd00::2]:2"));
    assert_false(gp_address_several("10.0.0.2:1"));
}

/* One that nobody can read does not take the others away. */
static void
bad_ones_are_passed_over(void **state)
{
    (void)state;
    assert_stands_for("10.0.0.2:x|10.0.0.3:1", "10.0.0.3:1");
    assert_stands_for("10.0.0.2:1|", "10.0.0.2:1");
    assert_stands_for("|10.0.0.2:1|[fd00::2", "10.0.0.2:1");
}

static void
at_most_so_many(void **state)
{
    char text[GP_ADDRESS_MAX * 2] = "1.0.0.1:1", long_one[GP_ADDRESS_MAX + 9];
    gp_address list[GP_ADDRESSES_MAX + 1];
    size_t count = 0;

    (void)state;
    for (unsigned i = 0; i < 2 * GP_ADDRESSES_MAX; i++)
        strcat(text, "|1.0.0.1:2");
    assert_int_equal(
        gp_address_resolve(text, false, list, GP_ADDRESSES_MAX, &count), GP_OK);
    assert_int_equal(count, GP_ADDRESSES_MAX);
    memset(long_one, 'x', sizeof(long_one) - 1);
    long_one[sizeof(long_one) - 1] = '\0';
    assert_int_equal(
        gp_address_resolve(long_one, false, list, GP_ADDRESSES_MAX, &count),
        GP_ERR_ADDRESS);
}

static void
none_is_an_error(void **state)
{
    static const char *const texts[] = {"", "|", "10.0.0.2", "10.0.0.2:0|[::1"};
    gp_address list[GP_ADDRESSES_MAX];
    size_t count;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        assert_int_equal(gp_address_resolve(texts[i], false, list,
                                            GP_COUNT_OF(list), &count),
                         GP_ERR_ADDRESS);
}

/* Listening is at one place. */
static void
listening_takes_one(void **state)
{
    gp_address list[GP_ADDRESSES_MAX];
    size_t count;

    (void)state;
    assert_int_equal(gp_address_resolve("10.0.0.2:1|10.0.0.3:1", true, list,
                                        GP_COUNT_OF(list), &count),
                     GP_ERR_ADDRESS);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(one_or_several),
        cmocka_unit_test(bad_ones_are_passed_over),
        cmocka_unit_test(at_most_so_many),
        cmocka_unit_test(none_is_an_error),
        cmocka_unit_test(listening_takes_one),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
