/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_token.c - where the job token comes from, and its proofs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "rendezvous/rendezvous.h"

/* A build without OpenSSL has no proofs to try. */
static void
skip_without_openssl(void)
{
    print_message("skipped: this build has no OpenSSL\n");
    skip();
}

static void
from_hex(const char *hex, uint8_t *out)
{
    for (size_t i = 0; hex[2 * i]; i++) {
        unsigned byte = 0;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
}

/* RFC 4231, test cases 1, 2, 3, 4, 6 and 7. */
static void
test_hmac_vectors(void **state)
{
    static const struct {
        uint8_t key_byte;
        size_t key_length;
        const char *key_text, *data_text;
        uint8_t data_byte;
        size_t data_length;
        const char *mac;
    } table[] = {
        {0x0b, 20, NULL, "Hi There", 0, 0,
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {0, 0, "Jefe", "what do ya want for nothing?", 0, 0,
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {0xaa, 20, NULL, NULL, 0xdd, 50,
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {0xaa, 131, NULL,
         "Test Using Larger Than Block-Size Key - Hash Key First", 0, 0,
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {0xaa, 131, NULL,
         "This is a test using a larger than block-size key and a larger than "
         "block-size data. The key needs to be hashed before being used by the "
         "HMAC algorithm.",
         0, 0,
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        uint8_t key[131], data[256], want[32], got[32];
        size_t key_length = table[i].key_length;
        size_t length = table[i].data_length;
        gp_status status;

        memset(key, table[i].key_byte, sizeof(key));
        memset(data, table[i].data_byte, sizeof(data));
        if (table[i].key_text) {
            key_length = strlen(table[i].key_text);
            memcpy(key, table[i].key_text, key_length);
        }
        if (table[i].data_text) {
            length = strlen(table[i].data_text);
            memcpy(data, table[i].data_text, length);
        }
        from_hex(table[i].mac, want);
        status = gp_token_hmac(key, key_length, data, length, got);
        if (status == GP_ERR_UNSUPPORTED)
            skip_without_openssl();
        assert_int_equal(status, GP_OK);
        assert_memory_equal(got, want, sizeof(want));
    }
}

/* The message of a proof, put together by hand. */
static void
test_proof_layout(void **state)
{
    uint8_t nonce[GP_TOKEN_NONCE], message[6 + 32 + 16];
    uint8_t proof[GP_TOKEN_PROOF], want[GP_TOKEN_PROOF];
    static const uint8_t numbers[16] = {8, 7, 6, 5, 4, 3, 2, 1,
                                        1, 0, 0, 0, 0, 0, 0, 0x80};

    (void)state;
    for (size_t i = 0; i < sizeof(nonce); i++)
        nonce[i] = (uint8_t)i;
    memcpy(message, "store", 6);
    memcpy(message + 6, nonce, 32);
    memcpy(message + 38, numbers, 16);
    if (gp_token_hmac("secret", 6, message, sizeof(message), want) ==
        GP_ERR_UNSUPPORTED)
        skip_without_openssl();
    assert_int_equal(gp_token_prove("secret", "store", nonce,
                                    0x0102030405060708u, 0x8000000000000001u,
                                    proof),
                     GP_OK);
    assert_true(gp_token_equal(proof, want));
}

static void
test_every_part_counts(void **state)
{
    uint8_t nonce[GP_TOKEN_NONCE] = {1}, other[GP_TOKEN_NONCE] = {2};
    uint8_t proof[6][GP_TOKEN_PROOF];

    (void)state;
    if (gp_token_prove("a", "worker", nonce, 1, 2, proof[0]) ==
        GP_ERR_UNSUPPORTED)
        skip_without_openssl();
    assert_int_equal(gp_token_prove("b", "worker", nonce, 1, 2, proof[1]), 0);
    assert_int_equal(gp_token_prove("a", "shard", nonce, 1, 2, proof[2]), 0);
    assert_int_equal(gp_token_prove("a", "worker", other, 1, 2, proof[3]), 0);
    assert_int_equal(gp_token_prove("a", "worker", nonce, 3, 2, proof[4]), 0);
    assert_int_equal(gp_token_prove("a", "worker", nonce, 1, 3, proof[5]), 0);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            assert_int_equal(gp_token_equal(proof[i], proof[j]), i == j);
}

static void
test_no_token(void **state)
{
    uint8_t nonce[GP_TOKEN_NONCE] = {1}, zero[GP_TOKEN_PROOF] = {0};
    uint8_t proof[GP_TOKEN_PROOF];

    (void)state;
    memset(proof, 7, sizeof(proof));
    assert_int_equal(gp_token_prove("", "worker", nonce, 1, 2, proof), GP_OK);
    assert_memory_equal(proof, zero, sizeof(zero));
    assert_int_equal(gp_token_prove("",
                                    "a role name that is far too long for it",
                                    nonce, 1, 2, proof),
                     GP_ERR_INVALID);
}

static char folder[64];

static gp_status
load(const char *content, size_t length, mode_t mode, char *out,
     size_t capacity)
{
    char path[128];
    gp_config *config = NULL;
    FILE *file;
    gp_status status;

    snprintf(path, sizeof(path), "%s/token", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "token_file", path), GP_OK);
    assert_int_equal(gp_config_set(config, "token", "from the variable"), 0);
    status = gp_token_load(config, out, capacity);
    gp_config_destroy(config);
    unlink(path);
    return status;
}

static void
test_file(void **state)
{
    char token[64] = "";

    (void)state;
    assert_int_equal(load("abc def\n", 8, 0600, token, sizeof(token)), GP_OK);
    assert_string_equal(token, "abc def");
    assert_int_equal(load("xyz\r\n\n", 6, 0400, token, sizeof(token)), GP_OK);
    assert_string_equal(token, "xyz");
}

static void
test_bad_files(void **state)
{
    char token[64] = "untouched";
    char long_text[200];

    (void)state;
    memset(long_text, 'x', sizeof(long_text));
    assert_int_equal(load("abc", 3, 0640, token, sizeof(token)), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "chmod 600"));
    assert_int_equal(load("abc", 3, 0604, token, sizeof(token)), GP_ERR_CONFIG);
    assert_int_equal(load(" \n", 2, 0600, token, sizeof(token)), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "empty"));
    assert_int_equal(load("a\0b", 3, 0600, token, sizeof(token)),
                     GP_ERR_CONFIG);
    assert_int_equal(load("a\nb\n", 4, 0600, token, sizeof(token)),
                     GP_ERR_CONFIG);
    assert_int_equal(load(long_text, 200, 0600, token, sizeof(token)),
                     GP_ERR_CONFIG);
    assert_string_equal(token, "untouched");
}

static gp_status
load_path(const char *path, char *out, size_t capacity)
{
    gp_config *config = NULL;
    gp_status status;

    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "token_file", path), GP_OK);
    status = gp_token_load(config, out, capacity);
    gp_config_destroy(config);
    return status;
}

static void
test_no_file(void **state)
{
    char token[64] = "untouched";

    (void)state;
    assert_int_equal(load_path("/nonexistent/token", token, sizeof(token)),
                     GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "/nonexistent/token"));
    assert_int_equal(load_path(folder, token, sizeof(token)), GP_ERR_CONFIG);
    assert_string_equal(token, "untouched");
}

static void
test_variable(void **state)
{
    gp_config *config = NULL;
    char token[16] = "untouched";

    (void)state;
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "token", "much longer than that"),
                     0);
    assert_int_equal(gp_token_load(config, token, sizeof(token)),
                     GP_ERR_CONFIG);
    assert_null(strstr(gp_last_error(), "much longer"));
    assert_string_equal(token, "untouched");
    assert_int_equal(gp_config_set(config, "token", "short"), GP_OK);
    assert_int_equal(gp_token_load(config, token, sizeof(token)), GP_OK);
    assert_string_equal(token, "short");
    assert_int_equal(gp_config_set(config, "token", ""), GP_OK);
    assert_int_equal(gp_token_load(config, token, sizeof(token)), GP_OK);
    assert_string_equal(token, "");
    gp_config_destroy(config);
}

static int
make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/gp_token_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int
drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hmac_vectors),
        cmocka_unit_test(test_proof_layout),
        cmocka_unit_test(test_every_part_counts),
        cmocka_unit_test(test_no_token),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_variable),
    };

    unsetenv("GRADPUSH_TOKEN");
    unsetenv("GRADPUSH_TOKEN_FILE");
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
