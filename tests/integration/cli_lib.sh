# SPDX-License-Identifier: Apache-2.0
# What the tests of the command share; sourced. Every check prints what it
# expected and what it got.
set -u
gradpush=${BUILD_DIR:-$1}/bin/gradpush
if [ ! -x "$gradpush" ]; then
    echo "skipped: $gradpush is not built"
    exit 77
fi
work=$(mktemp -d)
failures=0
checks=0
out=$work/out
err=$work/err
status=0
# What a calling environment says about a job must not reach these tests.
for name in $(env | sed -n 's/^\(GRADPUSH_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done

fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
    echo "  status $status"
    head -c 2000 "$out" 2>/dev/null | sed 's/^/  stdout: /'
    head -c 2000 "$err" 2>/dev/null | sed 's/^/  stderr: /'
}
# run WHAT STATUS ARGUMENT...: runs gradpush, compares the exit status.
run() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    timeout -k 10 120 "$gradpush" "$@" >"$out" 2>"$err" </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
says() { # WHAT FILE TEXT
    checks=$((checks + 1))
    grep -qF -- "$3" "$2" || fail "$1: no '$3' in $(basename "$2")"
}
says_not() {
    checks=$((checks + 1))
    ! grep -qF -- "$3" "$2" || fail "$1: '$3' in $(basename "$2")"
}
equals() { # WHAT GOT EXPECTED
    checks=$((checks + 1))
    [ "$2" = "$3" ] || fail "$1: '$2', not '$3'"
}
# until_true COMMAND...: polls for up to two minutes.
until_true() {
    local end=$((SECONDS + 120))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.02
    done
}
alive() { # PID: exists and is no zombie
    local state
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" \
        2>/dev/null)
    [ -n "$state" ] && [ "$state" != Z ]
}
gone() { ! alive "$1"; }
finish() {
    rm -rf "$work"
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ]
    exit
}
