#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A program outside the tree is compiled with what pkg-config says, against the
# shared library and against the static one.
. "$(dirname "$0")/common.sh"
install_here

export PKG_CONFIG_PATH=$libdir/pkgconfig
read -ra cflags <<<"$(pkg-config --cflags gradpush)"
read -ra libs <<<"$(pkg-config --libs gradpush)"
"$CC" -std=c11 "${cflags[@]}" "$here/consumer.c" -o "$work/shared" "${libs[@]}"
expect_library "$work/shared" yes
expect_version env LD_LIBRARY_PATH="$libdir" "$work/shared"

# The linker prefers the shared library where both lie; its name decides.
read -ra libs <<<"$(pkg-config --static --libs gradpush |
    sed 's/-lgradpush/-l:libgradpush.a/')"
"$CC" -std=c11 "${cflags[@]}" "$here/consumer.c" -o "$work/static" "${libs[@]}"
expect_library "$work/static" no
expect_version "$work/static"

# A codec of its own, proven with the installed suite.
read -ra flags <<<"$(pkg-config --cflags --libs gradpush-conformance)"
"$CC" -std=gnu11 -I "$here/../.." "$here/conformance.c" \
    -o "$work/conformance" "${flags[@]}"
expect_version env LD_LIBRARY_PATH="$libdir" "$work/conformance"

cxx=$(find_cxx)
[ -n "$cxx" ] || { echo "skipped: no C++ compiler; C is fine"; exit 77; }
read -ra libs <<<"$(pkg-config --libs gradpush)"
"$cxx" -std=c++11 "${cflags[@]}" "$here/consumer.cpp" -o "$work/cxx" \
    "${libs[@]}"
expect_version env LD_LIBRARY_PATH="$libdir" "$work/cxx"
echo "pkg-config: fine, shared and static, C and C++"
