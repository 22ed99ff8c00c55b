# SPDX-License-Identifier: Apache-2.0
# Sourced by the install tests: a prefix in a temporary folder, installed from
# the build under test and then moved, because an installed tree may be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:?usage: $0 BUILD_FOLDER}
CC=${CC:-cc}
CMAKE=${CMAKE:-cmake}

if [ -n "${SANITIZE:-}" ]; then
    echo "skipped: a sanitized library needs sanitized programs"
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/moved/prefix

install_here() {
    "$CMAKE" --install "$build" --prefix "$work/first" >"$work/install.log"
    mkdir -p "$work/moved"
    mv "$work/first" "$prefix"
    libdir=$(dirname "$(find "$prefix" -name libgradpush.a)")
}

find_cxx() {
    command -v "${CXX:-c++}" || command -v g++ || command -v clang++ || true
}

# expect_version PROGRAM...: runs and prints the version of the headers.
expect_version() {
    local want got
    want="gradpush $(sed -n 's/^#define GP_VERSION  *"\(.*\)"/\1/p' \
        "$prefix/include/gradpush/version.h")"
    got=$("$@")
    if [ "$got" != "$want" ]; then
        echo "$*: printed '$got', expected '$want'"
        exit 1
    fi
}

# expect_library PROGRAM yes|no: whether it loads libgradpush.so.0.
expect_library() {
    local found=no
    # Not grep -q: readelf would fail when its reader ends early.
    readelf -d "$1" | grep 'NEEDED.*libgradpush\.so\.0\]' >/dev/null &&
        found=yes
    if [ "$found" != "$2" ]; then
        echo "$1 loads libgradpush.so.0: $found, expected $2"
        exit 1
    fi
}
