#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A feature option takes AUTO, ON and OFF and nothing else; ON without what it
# needs stops the configure run and names the package; AUTO goes on and says
# what is missing; inside another project the tests stay out.
. "$(dirname "$0")/common.sh"
source=$(cd "$here/../.." && pwd)
log=$work/log

configure() {
    rm -rf "$work/build"
    "$CMAKE" -S "$source" -B "$work/build" -DCMAKE_C_COMPILER="$CC" \
        -DGRADPUSH_TESTS=OFF -DGRADPUSH_TOOLS=OFF -DGRADPUSH_TRAINER=OFF \
        "$@" >"$log" 2>&1
}
says() {
    tr -s ' \n' ' ' <"$log" | grep -q -- "$1" && return
    echo "the configure run does not say: $1"
    cat "$log"
    exit 1
}
stops() {
    ! configure "$@" && return
    echo "the configure run goes on with: $*"
    exit 1
}
goes_on() {
    configure "$@" && return
    cat "$log"
    exit 1
}

goes_on -DGRADPUSH_LZ4=no
says "LZ4 OFF no switched off"
stops -DGRADPUSH_LZ4=maybe
says "GRADPUSH_LZ4 is 'maybe': it takes AUTO, ON or OFF"

export PKG_CONFIG_LIBDIR=$work/nowhere
stops -DGRADPUSH_LZ4=ON
says "apt-get install liblz4-dev"
stops -DGRADPUSH_VERBS=ON -DGP_VERBS_INCLUDE=GP_VERBS_INCLUDE-NOTFOUND \
    -DCMAKE_FIND_ROOT_PATH="$work" -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY
says "apt-get install libibverbs-dev librdmacm-dev"
goes_on -DGRADPUSH_LZ4=AUTO
says "LZ4 AUTO no no liblz4 (Debian: liblz4-dev)"
unset PKG_CONFIG_LIBDIR

mkdir "$work/outer"
cp "$here/consumer.c" "$work/outer"
cat >"$work/outer/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(outer LANGUAGES C)
add_subdirectory("$source" gradpush)
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE gradpush::gradpush)
END
"$CMAKE" -S "$work/outer" -B "$work/outer_build" -DCMAKE_C_COMPILER="$CC" \
    -DGRADPUSH_TOOLS=OFF -DGRADPUSH_TRAINER=OFF -DGRADPUSH_KERNELS=OFF \
    -DCMAKE_BUILD_TYPE=Debug >"$log" 2>&1 ||
    { cat "$log"; exit 1; }
says "TESTS OFF no"
"$CMAKE" --build "$work/outer_build" --target consumer -j 2 >"$log" 2>&1 ||
    { tail -n 30 "$log"; exit 1; }
"$work/outer_build/consumer" | grep -q '^gradpush [0-9]'
echo "options: fine, alone and inside another project"
