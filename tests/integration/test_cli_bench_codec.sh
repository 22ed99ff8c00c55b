#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `gradpush bench codec`: rows, JSON, every kind of input, damaged files, and
# what it says about options that cannot be right. Nothing here judges speed.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

rows() { grep -vc '^#' "$out"; }
wrong_total() { awk '!/^#/ { n += $NF } END { print n + 0 }' "$out"; }
codec() { # WHAT ROWS ARGUMENT...
    local what=$1 expected=$2
    shift 2
    run "$what" 0 bench codec -n 2 -w 1 "$@"
    equals "$what: rows" "$(rows)" "$expected"
    equals "$what: wrong" "$(wrong_total)" 0
}
field() { # COLUMN of the first row
    awk -v c="$1" '!/^#/ { print $c; exit }' "$out"
}

# Every input; sizes that are no multiple of a chunk or a block.
for input in gauss laplace student lognormal spike zeros; do
    codec "$input" 2 --input "$input" --count 131329 --codec none --codec q8
    equals "$input: none loses nothing" "$(field 14)" 0
done
codec "the default pipelines" 3 --count 1000
codec "a rotation, undone" 2 --count 70000 --codec hadamard \
    --codec hadamard:32768
codec "one element" 1 --count 1 --codec q8 --workers 1
codec "sizes" 3 -b 4K -e 64K -f 4 --codec bf16
equals "sizes: first" "$(field 1)" 4096
codec "threads" 1 --count 300001 --threads 3 --chunk 64K --codec q8+lz4
codec "feedback" 2 --count 20000 --feedback --step-count 6 --codec q8 \
    --codec bf16
codec "a link" 1 --count 4096 --codec q8 --link 10G
run "unchecked" 0 bench codec --count 64 --codec q8 -n 1 -c 0
says "unchecked" "$out" "unchecked"

# Files: what the trainer dumps is what the benchmark reads.
trainer=${gradpush%/*}/gradpush-train
if [ -x "$trainer" ]; then
    checks=$((checks + 1))
    timeout 60 "$trainer" --epochs 1 --hidden 64 --codec q8 --quiet \
        --dump-gradients "$work/dump" --dump-every 4 >"$out" 2>"$err" ||
        fail "--dump-gradients"
    equals "dumped" "$(ls "$work/dump" | grep -c 'layer0.weight.npy$')" 3
    equals "dumped with residuals" \
        "$(ls "$work/dump" | grep -c 'layer0.weight.u.npy$')" 3
    codec "a dumped gradient" 1 --codec q8 \
        --input "$work/dump/step-000004.layer0.weight.npy"
    equals "a dumped gradient: bytes" "$(field 1)" $((64 * 64 * 4))
    codec "steps from files" 1 --codec q8 --feedback --step-count 6 \
        --input "$work/dump/step-000000.layer0.weight.npy" \
        --input "$work/dump/step-000004.layer0.weight.npy" \
        --input "$work/dump/step-000008.layer0.weight.npy"
    run "files of different sizes" 1 bench codec \
        --input "$work/dump/step-000000.layer0.weight.npy" \
        --input "$work/dump/step-000000.layer0.bias.npy"
    says "files of different sizes" "$err" "same number"
fi

# npy HEADER BYTES: a version 1.0 file with that dict and so many bytes of data.
npy() {
    {
        printf '\x93NUMPY\x01\x00'
        # shellcheck disable=SC2059
        printf "\\x$(printf %x ${#1})\\x00"
        printf %s "$1"
        head -c "$2" /dev/zero
    } >"$work/x.npy"
}
plain="{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }"
npy "$plain" 60
codec "a file of numpy" 1 --codec q8 --input "$work/x.npy"
damaged() { # WHAT SAYS
    run "$1" 2 bench codec --codec none --input "$work/x.npy"
    says "$1" "$err" "x.npy"
    says "$1" "$err" "$2"
}
npy "$plain" 59
damaged "a short file" "15 elements"
npy "$plain" 64
damaged "a long file" "15 elements"
npy "${plain/<f4/<f8}" 120
damaged "fp64" "fp32"
npy "${plain/<f4/|O}" 60
damaged "objects" "fp32"
npy "${plain/False/True}" 60
damaged "Fortran order" "C order"
npy "${plain/3, 5/4611686018427387905, 4}" 16
damaged "a shape that overflows" "fits into memory"
npy "${plain/3, 5/99999999999999999999}" 16
damaged "a dimension that overflows" "fits into memory"
npy "${plain/3, 5/-3}" 16
damaged "a negative dimension" "dimension"
npy "${plain/3, 5/1,1,1,1,1,1,1,1,1}" 4
damaged "nine dimensions" "dimensions"
npy "${plain/(3, 5), \}/(3, 5}" 60
damaged "an open tuple" "tuple"
npy "${plain/\'shape\': (3, 5), /}" 60
damaged "no shape" "shape"
npy "${plain/shape/descr}" 60
damaged "a key twice" "once"
npy "${plain/\'<f4\'/exit(1)}" 60
damaged "code" "fp32"
npy "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }" 0
damaged "no elements" "no elements"
head -c 11 /dev/zero >"$work/x.npy"
damaged "no magic" "not a .npy file"
printf '\x93NUMPY\x09\x00xxxxxxxx' >"$work/x.npy"
damaged "a version to come" "version 9"
printf '\x93NUMPY\x01\x00\xff\xff{}' >"$work/x.npy"
damaged "a header beyond the file" "longer than the file"
run "no such file" 2 bench codec --input "$work/missing.npy"
says "no such file" "$err" "missing.npy"

# Options that cannot be right name themselves.
nonsense() { # SAYS ARGUMENT...
    local text=$1
    shift
    run "$*" 2 bench codec "$@"
    says "$*" "$err" "$text"
    equals "$*: no table" "$(cat "$out")" ""
}
nonsense "did you mean 'q8'" --codec q9
nonsense "q8:blok=64" --codec q8:blok=64
nonsense "one pipeline is measured at a time" --codec auto
nonsense "--codec none|q8: one pipeline" --codec 'none|q8'
nonsense "in what efsignsgd stands for" --codec efsignsgd:block=64
nonsense "--count is '0'" --count 0
nonsense "--count is 'many'" --count many
nonsense "one size" --count 10 -b 4K
nonsense "more than --maxbytes" -b 64K -e 4K
nonsense "--threads is '0'" --threads 0
nonsense "--workers is '65'" --workers 65
nonsense "--link is '10X'" --link 10X
nonsense "--link is '-1'" --link -1
nonsense "--device is 'tpu'" --device tpu
nonsense "must all be files" --input gauss --input laplace
nonsense "did you mean '--codec'" --codce q8
nonsense "not expected" q8
run "--device cuda" 1 bench codec --device cuda
says "--device cuda" "$err" "--device cpu"
# What cannot be measured is named, and others follow; on a simulated driver.
simulated=$BUILD_DIR/tests/gpu/lib
if [ -e "$simulated/libcuda.so.1" ] && [ -z "$SANITIZE" ]; then
    LD_LIBRARY_PATH=$simulated run "no kernel for one" 1 bench codec -n 1 -w 0 \
        --device cuda --count 5000 --workers 2 --codec fake+q8 --codec q8
    says "no kernel for one" "$err" "the stage fake has no kernel"
    equals "no kernel for one: rows" "$(rows)" 1
fi

if "$gradpush" info --json - >"$work/json" 2>"$err"; then
    run "--json" 0 bench codec --codec none --codec q8 --count 8192 -n 3 \
        --feedback --link 1G --json -
    equals "--json" "$(python3 - "$out" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "gradpush.bench/1" and d["what"] == "codec"
assert d["config"]["input"] == ["gauss"] and d["config"]["feedback"] is True
none, q8 = d["results"]
for r in d["results"]:
    for name in ("encode_GBps", "decode_GBps", "decode_add_GBps", "fold_GBps",
                 "roofline_GBps", "encode_share", "encode_p99_us", "ratio",
                 "ratio_to_16_bit", "break_even_Gbps", "speedup"):
        assert isinstance(r[name], (int, float)), name
    assert r["errors"] == 0 and r["device"] == "cpu" and r["count"] == 8192
    assert r["encode_min_us"] <= r["encode_median_us"] <= r["encode_p99_us"]
assert none["codec"] == "none" and none["nmse"] == 0
assert abs(none["cosine"] - 1) < 1e-12
assert 32 < none["bits_per_element"] < 32.2, none["bits_per_element"]
assert q8["pipeline"].startswith("q8:block=256")
assert 8 < q8["payload_bits_per_element"] < q8["bits_per_element"] < 8.3
assert 0 < q8["nmse"] < 1e-3 and q8["cosine"] > 0.999
assert 0 < q8["residual_ratio"] < 0.1 and q8["memory_bytes"] >= 4 * 8192
assert q8["feedback_separate_GBps"] > 0
print("fine")
PYTHON
)" fine
fi
finish
