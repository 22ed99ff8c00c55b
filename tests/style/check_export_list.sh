#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/cmake/exports.awk reads declarations in every form, and fails aloud on
# one that it cannot read.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
script=$root/tools/cmake/exports.awk
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/a.h" <<'END'
#define GP_API __attribute__((visibility("default")))
#define GP_TEXT "a // b /* c"
#define GP_LONG(x) \
    GP_API gp_not_this(x);
/* GP_API int gp_in_comment(void); */
// GP_API int gp_in_line(void);
struct gp_table { int (*GP_APIS)(void); gp_status (*gp_member)(int); };
extern "C" {
GP_API int gp_plain(void);
GP_API GP_MUST_CHECK gp_status
gp_wrapped(const gp_config *config,
           gp_worker **out);
GP_API const char *gp_pointer (int gp_argument);
GP_API void gp_log(const char *format, ...) GP_PRINTF(1, 2);
GP_API GP_PRINTF(1, 2) void gp_log_before(const char *format, ...);
GP_API gp_status (*gp_handler(int number))(gp_status);
GP_API extern const int gp_count;
GP_API extern const char gp_letters[4];
END
printf 'GP_API void gp_other_file(void);\n' >"$work/b.h"
cat >"$work/expected" <<'END'
gp_count
gp_handler
gp_letters
gp_log
gp_log_before
gp_other_file
gp_plain
gp_pointer
gp_wrapped
END
for awk in mawk gawk busybox; do
    command -v "$awk" >/dev/null || continue
    [ "$awk" = busybox ] && awk="busybox awk"
    $awk -f "$script" "$work/a.h" "$work/b.h" >"$work/map"
    sed -n 's/^ *\(gp_[a-z_]*\);$/\1/p' "$work/map" | sort >"$work/got"
    diff "$work/expected" "$work/got"
    echo "GP_API int other_prefix(void);" >"$work/bad.h"
    for bad in "$work/bad.h" /dev/null; do
        if $awk -f "$script" "$bad" >"$work/map" 2>"$work/error"; then
            echo "$awk: no failure for $bad"
            exit 1
        fi
        grep -q 'exports.awk: no usable' "$work/error"
    done
done
echo "export list: fine"
