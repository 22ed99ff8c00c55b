#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles alone, as strict C11 and as C++11.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cc=${CC:-cc}
cxx=${CXX:-}
[ -n "$cxx" ] || cxx=$(command -v c++ || command -v g++ || command -v clang++)
failures=0
count=0
try() {
    if ! printf '#include <gradpush/%s>\n' "$2" |
        $1 -fsyntax-only -I "$root/include" -Wall -Wextra -Werror \
            -pedantic-errors "${@:3}" -; then
        echo "$2 does not compile alone: $1 ${*:3}"
        failures=$((failures + 1))
    fi
}
for header in "$root"/include/gradpush/*.h; do
    name=$(basename "$header")
    count=$((count + 1))
    try "$cc" "$name" -x c -std=c11
    [ -n "$cxx" ] && try "$cxx" "$name" -x c++ -std=c++11
done
[ "$failures" -eq 0 ] || exit 1
if [ -z "$cxx" ]; then
    echo "skipped: no C++ compiler; as C11 all $count headers are fine"
    exit 77
fi
echo "$count headers: fine as C11 and as C++11"
