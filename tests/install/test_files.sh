#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What an installation holds: every public header, compiling alone as C11 and
# C++11, nothing internal, the documents, and programs that run from there.
. "$(dirname "$0")/common.sh"
install_here

source=$here/../..
diff <(cd "$source/include" && find . -name '*.h' | sort) \
    <(cd "$prefix/include" && find . -type f | sort)
cxx=$(find_cxx)
for header in "$prefix"/include/gradpush/*.h; do
    line="#include <gradpush/$(basename "$header")>"
    "$CC" -fsyntax-only -Wall -Wextra -Werror -pedantic-errors -std=c11 \
        -I "$prefix/include" -x c - <<<"$line"
    [ -z "$cxx" ] || "$cxx" -fsyntax-only -Wall -Wextra -Werror \
        -pedantic-errors -std=c++11 -I "$prefix/include" -x c++ - <<<"$line"
done
for name in README.md LICENSE CHANGELOG.md; do
    [ -f "$prefix/share/doc/gradpush/$name" ] ||
        { echo "$name is not installed"; exit 1; }
done
# Links lead somewhere, but for those into the source and to headers.
documents=$prefix/share/doc/gradpush
broken=$(cd "$documents" && find . -name '*.md' | while read -r name; do
    sed 's/\](/\n](/g' "$name" | sed -n 's/^](\([^)#: ]*\)[)#].*/\1/p' | sort -u |
        while read -r to; do
            case $to in
            '' | include/* | ../include/* | ../lib/* | ../examples/trainer/*) ;;
            *) [ -e "$(dirname "$name")/$to" ] || echo "$name: $to" ;;
            esac
        done
done)
[ -z "$broken" ] || { echo "links that lead nowhere: $broken"; exit 1; }
[ "$(find "$documents/docs/codecs" -name '*.md' | wc -l)" -ge 5 ] ||
    { echo "documents of codecs are not installed"; exit 1; }
for example in "$documents"/examples/*.c; do
    "$CC" "$example" -I "$prefix/include" -L "$libdir" \
        -Wl,-rpath,"$libdir" -lgradpush -lm -ldl -o "$work/example"
done
"$work/example" >"$work/example.out" ||
    { cat "$work/example.out"; exit 1; }
[ -L "$libdir/libgradpush.so" ] && [ -L "$libdir/libgradpush.so.0" ] ||
    { echo "the links of the shared library are not installed"; exit 1; }
if grep -rIl "$work/first" "$prefix"; then
    echo "the files above hold the path they were installed to"
    exit 1
fi

for program in gradpush gradpush-train; do
    [ -x "$build/bin/$program" ] || continue
    version=$(cd / && "$prefix/bin/$program" --version)
    grep -q '[0-9]\.[0-9]\.[0-9]' <<<"$version" ||
        { echo "$program --version printed '$version'"; exit 1; }
done
echo "installed files: fine"
