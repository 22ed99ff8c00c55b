# SPDX-License-Identifier: Apache-2.0
# What the benchmarks look for; sourced, with `top`, `build`, `data` and die().

# find_data: sets data to mnist10k where it was not told and is there.
find_data() {
    local folder
    [ -z "$data" ] || return 0
    for folder in "$top"/shared "$top"/../shared; do
        [ ! -d "$folder/data/mnist10k" ] || data=$folder/data/mnist10k
    done
}

# find_program NAME: sets program to the first bin/NAME of the build folders.
find_program() {
    local folder
    program=
    for folder in ${build:+"$build"} "$top/build" "$top"/build/* "$top"/build-*; do
        [ ! -x "$folder/bin/$1" ] || { program=$folder/bin/$1; return 0; }
    done
    die "no bin/$1: build first, see docs/build.md, or give --build DIR"
}
