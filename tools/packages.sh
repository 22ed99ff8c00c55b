#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# packages.sh build|test|lab - installs the Debian packages that are missing.
#
#   build   what the library, the tools and the trainer are built with
#   test    the same, and what tests/run.sh needs
#   lab     what tests/rdma/lab.sh needs: QEMU and the RDMA tools
#
# Asks nothing. Does nothing when all are there; as root or through sudo
# otherwise. The package lists are updated only when an installation needs it.
set -euo pipefail

build=(cmake ninja-build gcc libc6-dev pkg-config libopenblas-dev zlib1g-dev
    liblz4-dev libzstd-dev libssl-dev libjansson-dev libibverbs-dev
    librdmacm-dev libhwloc-dev)
tests=(g++ git python3 python3-numpy libcmocka-dev clang libclang-rt-14-dev
    lld ccache clang-format-14 universal-ctags binutils iproute2)
lab=(qemu-system-x86 busybox-static kmod cpio xz-utils zstd util-linux rdma-core
    ibverbs-providers ibverbs-utils rdmacm-utils perftest iproute2)

case ${1:-} in
lab) wanted=("${lab[@]}") ;;
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${tests[@]}") ;;
*)
    echo "usage: $0 build|test|lab" >&2
    exit 2
    ;;
esac

if ! command -v apt-get >/dev/null; then
    echo "no apt-get here; what is needed, by its Debian names: ${wanted[*]}"
    exit 0
fi

is_there() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
missing=()
for package in "${wanted[@]}"; do
    is_there "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300)
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        echo "these packages are missing, and this is neither root nor a user" \
            "with sudo: ${missing[*]}" >&2
        echo "run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    apt=(sudo -n "${apt[@]}")
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
get() {
    "${apt[@]}" install --no-install-recommends "$@" </dev/null >"$log" 2>&1
}

echo "installing: ${missing[*]}"
get "${missing[@]}" && exit 0
"${apt[@]}" update </dev/null >"$log" 2>&1 || { tail -5 "$log" >&2; }
get "${missing[@]}" && exit 0
# One that this release of the system lacks must not keep the others away.
for package in "${missing[@]}"; do
    get "$package" || echo "cannot install $package: $(tail -1 "$log")" >&2
done
for package in "${build[@]}"; do
    is_there "$package" || exit 1
done
