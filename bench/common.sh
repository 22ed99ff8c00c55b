# SPDX-License-Identifier: Apache-2.0
# What the benchmarks look for and say of themselves; sourced, with `top`,
# `build`, `data` and die().

# find_command NAME ARGUMENT...: sets command to what can be typed again.
find_command() {
    local word
    command=bench/$1
    shift
    for word in "$@"; do
        case $word in
        "" | *[!a-zA-Z0-9_.,:/=+@-]*) command+=" \"$word\"" ;;
        *) command+=" $word" ;;
        esac
    done
}

# head_lines TITLE: a title, then the command, the machine, and the day.
head_lines() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
    printf '# %s\n\n' "$1"
    fold -s -w 80 <<<"\`$command\` on ${cpu:-an unknown processor}, $(nproc) \
cores, $(uname -sr); $(date -u +%F)." | sed 's/ *$//'
}

# keep_table FILE NAME: bench/results/NAME.md, where a name was given.
keep_table() {
    [ -n "$2" ] || return 0
    cp "$1" "$top/bench/results/$2.md"
    say "stored: bench/results/$2.md"
}

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
