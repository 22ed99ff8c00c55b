# SPDX-License-Identifier: Apache-2.0
# exports.awk - writes the linker version script of libgradpush.so from the
# public headers: one symbol per declaration marked GP_API.
#
#     awk -f exports.awk include/gradpush/*.h > gradpush.map
#
# A declaration is the text from GP_API to the next semicolon. Its name is the
# first gp_ identifier followed by a parameter list, or the last identifier of
# a variable. A declaration without such a name is an error, not a silence.

function blank_comments(text,    out, at, mark, stop)
{
    out = ""
    while ((at = match(text, /\/\*|\/\/|"/)) > 0) {
        mark = substr(text, at, 2)
        if (substr(mark, 1, 1) == "\"") {
            # A text may hold what looks like a comment: step over it.
            out = out substr(text, 1, at - 1) " "
            text = substr(text, at + 1)
            match(text, /([^"\\]|\\.)*"/)
            text = substr(text, RSTART + RLENGTH)
        } else if (mark == "//") {
            out = out substr(text, 1, at - 1) " "
            text = substr(text, at)
            stop = index(text, "\n")
            text = stop ? substr(text, stop) : ""
        } else {
            out = out substr(text, 1, at - 1) " "
            text = substr(text, at + 2)
            stop = index(text, "*/")
            text = stop ? substr(text, stop + 2) : ""
        }
    }
    return out text
}

# Directives with their continuation lines.
function blank_directives(text,    n, i, lines, out, inside)
{
    n = split(text, lines, "\n")
    out = ""
    inside = 0
    for (i = 1; i <= n; i++) {
        if (inside || lines[i] ~ /^[ \t]*#/) {
            inside = lines[i] ~ /\\$/
            continue
        }
        out = out lines[i] "\n"
    }
    return out
}

# The declared name, or "".
function declared(text,    rest, name, next_char)
{
    gsub(/GP_PRINTF[ \t\n]*\([^()]*\)/, " ", text)
    gsub(/GP_MUST_CHECK/, " ", text)
    gsub(/[ \t\n]+/, " ", text)
    gsub(/ *\( */, "(", text)
    rest = text
    while (match(rest, /gp_[A-Za-z0-9_]+\(/)) {
        name = substr(rest, RSTART, RLENGTH - 1)
        next_char = substr(rest, RSTART + RLENGTH, 1)
        # "gp_status(*gp_handler(...))(...)" declares gp_handler.
        if (next_char != "*")
            return name
        rest = substr(rest, RSTART + RLENGTH)
    }
    sub(/\[.*/, "", text)
    if (match(text, /gp_[A-Za-z0-9_]+ *$/)) {
        name = substr(text, RSTART, RLENGTH)
        sub(/ +$/, "", name)
        return name
    }
    return ""
}

function collect(file, text,    n, i, parts, at, name)
{
    text = blank_directives(blank_comments(text))
    n = split(text, parts, ";")
    for (i = 1; i <= n; i++) {
        at = match(parts[i], /(^|[^A-Za-z0-9_])GP_API([^A-Za-z0-9_]|$)/)
        if (!at)
            continue
        name = declared(substr(parts[i], at + RLENGTH - 1))
        if (name == "") {
            printf "%s: no name after GP_API in:%s\n", file, parts[i] \
                > "/dev/stderr"
            failed = 1
        } else if (!(name in names)) {
            names[name] = 1
            order[++count] = name
        }
    }
}

FNR == 1 && NR > 1 {
    collect(previous, all)
    all = ""
}

{
    previous = FILENAME
    all = all $0 "\n"
}

END {
    collect(previous, all)
    if (failed || !count) {
        print "exports.awk: no usable list of symbols" > "/dev/stderr"
        exit 1
    }
    print "GRADPUSH_0 {"
    print "    global:"
    for (i = 1; i <= count; i++)
        printf "        %s;\n", order[i]
    print "    local:"
    print "        *;"
    print "};"
}
