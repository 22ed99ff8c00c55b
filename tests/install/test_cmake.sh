#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A CMake project outside the tree finds the installed package and links both
# libraries, in C and C++; a version that is not installed is not found.
. "$(dirname "$0")/common.sh"
install_here

cxx=$(find_cxx)
mkdir -p "$work/source/examples"
cp "$here"/CMakeLists.txt "$here"/consumer.c "$here"/consumer.cpp \
    "$here"/conformance.c "$work/source"
cp "$here"/../../examples/03_custom_codec.c "$work/source/examples"
"$CMAKE" -S "$work/source" -B "$work/build" -DCMAKE_C_COMPILER="$CC" \
    -DCMAKE_PREFIX_PATH="$prefix" -DWITH_CXX="${cxx:+ON}" \
    ${cxx:+-DCMAKE_CXX_COMPILER="$cxx"} >"$work/configure.log" ||
    { cat "$work/configure.log"; exit 1; }
"$CMAKE" --build "$work/build" >"$work/build.log" ||
    { cat "$work/build.log"; exit 1; }

for program in shared_c static_c conformance ${cxx:+shared_cxx static_cxx}; do
    expect_version "$work/build/$program"
done
expect_library "$work/build/shared_c" yes
expect_library "$work/build/static_c" no

for version in 0.2 1.0; do
    sed "s/gradpush 0\.1 REQUIRED/gradpush $version REQUIRED/" \
        "$here/CMakeLists.txt" >"$work/source/CMakeLists.txt"
    if "$CMAKE" -S "$work/source" -B "$work/build_$version" \
        -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$prefix" \
        -DWITH_CXX=OFF >"$work/version.log" 2>&1; then
        echo "find_package(gradpush $version) is satisfied by another version"
        exit 1
    fi
    grep -q "version: \"$version\"\|version \"$version\"" "$work/version.log" ||
        { cat "$work/version.log"; exit 1; }
done
[ -n "$cxx" ] || { echo "skipped: no C++ compiler; C is fine"; exit 77; }
echo "CMake package: fine, shared and static, C and C++"
