#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The style checks find what they are for: each runs on a small tree with one
# fault of its kind and must name it.
set -uo pipefail
style=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

# expect CHECK PATTERN FILE: the file's text comes from standard input.
expect() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/tests/style" "$tree/$(dirname "$3")" "$tree/lib/base" \
        "$tree/lib/shard" "$tree/transports/tcp"
    cp "$style"/sources.py "$style/$1" "$tree/tests/style/"
    touch "$tree/lib/base/base.h" "$tree/lib/shard/shard.h" \
        "$tree/transports/tcp/tcp.h"
    cat >"$tree/$3"
    output=$(GIT_CEILING_DIRECTORIES=$tree python3 -B \
        "$tree/tests/style/$1" "$tree" 2>&1)
    rc=$?
    if [ "$rc" -eq 77 ]; then
        echo "$1: $output"
    elif [ "$rc" -ne 1 ] || ! grep -q "$2" <<<"$output"; then
        echo "$1 overlooks '$2' in $3 (status $rc): $output"
        failures=$((failures + 1))
    fi
}

expect check_format.py "format" lib/base/a.c <<<'int  x ;'
expect check_includes.py "lib/base may not depend on lib" lib/base/a.c \
    <<<'#include "shard/shard.h"'
expect check_includes.py "by their table" lib/shard/a.c \
    <<<'#include "transports/tcp/tcp.h"'
expect check_includes.py "transports may not depend on lib" transports/a.c \
    <<<'#include "shard/shard.h"'
expect check_includes.py "examples may not depend on lib/base" examples/a.c \
    <<<'#include "base/base.h"'
expect check_includes.py "CUDA belongs" lib/base/a.c <<<'#include <cuda.h>'
expect check_includes.py "belongs into transports/verbs" lib/base/a.c \
    <<<'#include <infiniband/verbs.h>'
expect check_includes.py "not a file" lib/base/a.c <<<'#include "nothing.h"'
{
    printf 'int\nlong_one(void)\n{\n'
    yes '    gp_nothing();' | head -n 120
    printf '    return 0;\n}\n'
} | expect check_sizes.py "long_one has" lib/base/a.c
yes '/* line */' | head -n 801 | expect check_sizes.py "801 lines" lib/base/a.c
expect check_words.py "unfinished" lib/base/a.c <<<"/* TO""DO */"
expect check_words.py "path of one" lib/base/a.c <<<"/* /ho""me/me/x */"
expect check_words.py "end of the line" docs/a.md <<<'text '
expect check_words.py "tab" lib/base/a.c <<<$'\tint x;'
printf 'no newline' | expect check_words.py "no newline" docs/a.md
expect check_links.py "leads nowhere" docs/a.md <<<'[there](nothing.md)'
expect check_links.py "there is no" docs/a.md <<<'see `lib/nothing.c`'

[ "$failures" -eq 0 ] || exit 1
echo "every check finds its faults"
