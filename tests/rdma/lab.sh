#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lab.sh - runs commands in a virtual machine that has a soft-RoCE device.
#
#     tests/rdma/lab.sh prepare
#     tests/rdma/lab.sh run [OPTION]... -- COMMAND...
#     tests/rdma/lab.sh test [OPTION]...
#
# prepare installs what is missing and fetches a kernel, once; run does it too.
# run boots, runs COMMAND as root by bash, prints what it writes, returns its
# exit status. One word is a script, several are a command with its arguments.
# test runs all cases, of one guest and of two.
#
#   --guests 1|2   two are joined by a network; both run COMMAND   (1)
#   --timeout S    seconds for all of it, then the status is 124   (300)
#   --out DIR      where the guest may write, $OUT there          (build/lab-out)
#   --build DIR    $BUILD_DIR there                        (build/release)
#   --only NAME    test: only cases whose name contains NAME
#
# LAB_CACHE is where kernel and initramfs are kept (build/rdma-lab), LAB_ACCEL
# how QEMU runs the guest (tcg,thread=multi; kvm is faster where it works).
# LAB_SLOW=N gives cases N times their time, for a machine that is busy;
# LAB_ROUNDS=N repeats what is compared side by side N times (1; from 4 on with
# LAB_SLOW=2 or more).
# Exit status 77: no QEMU or no kernel can be had here; 125: the guest failed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cache=${LAB_CACHE:-$root/build/rdma-lab}
here=$root/tests/rdma

usage() {
    sed -n '3,26s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit "$1"
}
wrong() {
    echo "lab.sh: $*" >&2
    exit 2
}
none() {
    echo "skipped: $*"
    exit 77
}

# The dependencies of rdma_rxe do not name crc32: it is asked for by its name.
modules=(virtio_pci virtio_net virtio_console 9pnet_virtio 9p crc32_generic
    rdma_rxe ib_uverbs rdma_cm rdma_ucm veth sch_netem)

# The newest kernel package, as NAME.
kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | sed -n 1p
}

# get_kernel FOLDER: a kernel package's files, unpacked.
get_kernel() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        "${as_root[@]}" apt-get -q update >/dev/null 2>&1 || true
        package=$(kernel_package)
    fi
    [ -n "$package" ] || none "no package linux-image-amd64 is known to apt"
    echo "lab: fetching $package"
    mkdir -p "$1"
    if ! (cd "$1" && apt-get -q download "$package") >"$1/log" 2>&1; then
        # Lists may be older than what the archive still has.
        "${as_root[@]}" apt-get -q update >/dev/null 2>&1 || true
        package=$(kernel_package)
        (cd "$1" && apt-get -q download "$package") >"$1/log" 2>&1 ||
            none "cannot download $package: $(tail -n 1 "$1/log")"
    fi
    dpkg -x "$1"/linux-image-*.deb "$1/root"
}

# unpacked FILE TARGET: modules of some releases are compressed.
unpacked() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -qdc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

# make_initramfs KERNEL-ROOT TARGET
make_initramfs() {
    local version tree=$2.tree name file
    version=$(ls "$1/lib/modules")
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,sys,modules}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp "$here/init.sh" "$tree/init"
    chmod 755 "$tree/init" "$tree/bin/busybox"
    depmod -b "$1" "$version"
    for name in "${modules[@]}"; do
        modprobe -S "$version" -d "$1" -D --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tree.list"
    while read -r file; do
        name=$(basename "$file")
        name=${name%.xz}
        name=${name%.zst}
        unpacked "$file" "$tree/modules/$name"
        echo "$name"
    done <"$tree.list" >"$tree/modules/order"
    (cd "$tree" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1) >"$2.new"
    mv "$2.new" "$2"
    rm -rf "$tree" "$tree.list"
}

prepare() {
    local needed=(qemu-system-x86_64 busybox depmod cpio rdma ibv_devinfo
        rping ib_write_bw dpkg apt-get) tool key
    PATH=$PATH:/usr/sbin:/sbin
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    mkdir -p "$cache"
    exec 8>"$cache/lock"
    flock 8
    for tool in "${needed[@]}"; do
        command -v "$tool" >/dev/null && continue
        bash "$root/tools/packages.sh" lab || true
        break
    done
    for tool in "${needed[@]}"; do
        command -v "$tool" >/dev/null || none "$tool is not installed"
    done
    [ "$(uname -m)" = x86_64 ] || none "the lab knows x86-64 only"
    key=$(echo "${modules[@]}" | cat - "$here/init.sh" | sha256sum)
    if ! [ -s "$cache/vmlinuz" ] || ! [ -s "$cache/initramfs" ] ||
        [ "$(cat "$cache/key" 2>/dev/null)" != "$key" ]; then
        rm -f "$cache/key"
        [ -d "$cache/kernel/root/lib/modules" ] || {
            rm -rf "$cache/kernel" "$cache/fetch"
            get_kernel "$cache/fetch"
            rm -f "$cache"/fetch/*.deb
            mv "$cache/fetch" "$cache/kernel"
        }
        make_initramfs "$cache/kernel/root" "$cache/initramfs"
        cp "$cache"/kernel/root/boot/vmlinuz-* "$cache/vmlinuz"
        echo "$key" >"$cache/key"
    fi
    exec 8>&-
}

# In QEMU's options a comma separates.
quoted() { printf '%s' "${1//,/,,}"; }

# boot GUEST: starts a guest in the background; its process is in pids.
boot() {
    local share=$work/lab.$1
    local local9p="security_model=none,multidevs=remap" accel
    local command net
    # shellcheck disable=SC2054
    command=(qemu-system-x86_64 -nodefaults -no-user-config
        -cpu max,arch-capabilities=off -smp 2 -m "$memory" -display none -no-reboot
        -kernel "$cache/vmlinuz" -initrd "$cache/initramfs"
        -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on $(
            )tsc=reliable no_timer_check $kernel_options"
        -chardev "file,id=console,path=$(quoted "$work/console.$1")"
        -serial chardev:console -device virtio-serial-pci
        -chardev "file,id=out,path=$(quoted "$work/pipe.$1")"
        -device virtserialport,chardev=out,name=lab.out
        -virtfs "local,path=/,mount_tag=host,readonly=on,$local9p"
        -virtfs "local,path=$(quoted "$share"),mount_tag=lab,readonly=on,$local9p"
        -virtfs "local,path=$(quoted "$out"),mount_tag=out,$local9p")
    for accel in "${accels[@]}"; do
        command+=(-accel "$accel")
    done
    if [ "$guests" = 2 ]; then
        # Each sends datagrams to the socket of the other.
        for net in 77 78; do
            command+=(-netdev "dgram,id=n$net,local.type=unix,$(
                )remote.type=unix,local.path=$sockets/$net.$1,$(
                )remote.path=$sockets/$net.$((1 - $1))"
                -device "virtio-net-pci,netdev=n$net,romfile=,$(
                )mac=52:54:00:$net:00:0$1")
        done
    fi
    mkdir "$share"
    cp "$work/command" "$share/command"
    {
        echo "GUEST=$1 GUESTS=$guests NONCE=$nonce LAB_SLOW=$slow LAB_ROUNDS=$rounds"
        echo "SOURCE_DIR=${root@Q} BUILD_DIR=${build@Q} OUT=${out@Q}"
        echo "HOST_PATH=${PATH@Q} DIRECTORY=${PWD@Q}"
    } >"$share/settings"
    mkfifo "$work/pipe.$1"
    if [ "$guests" = 1 ]; then
        cat "$work/pipe.$1" &
    else
        sed -u "s/^/$1| /" "$work/pipe.$1" &
    fi
    readers+=($!)
    # Ends with this script, however that ends.
    setpriv --pdeathsig KILL "${command[@]}" </dev/null \
        >"$work/qemu.$1" 2>&1 8>&- &
    pids+=($!)
}

# status_of GUEST: what its console says.
status_of() {
    sed -n "s/.*lab-status $nonce \([0-9]*\).*/\1/p" "$work/console.$1" |
        tail -n 1
}

cleanup() {
    local pid
    trap - EXIT
    for pid in "${pids[@]}" "${readers[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    wait "${pids[@]}" "${readers[@]}" 2>/dev/null || true
    rm -rf "$work" ${sockets:+"$sockets"}
    return 0
}

# Folders of runs that were killed too hard to remove them.
remove_left_over() {
    local folder
    for folder in "$cache"/run.*; do
        [ -d "$folder" ] && ! kill -0 "${folder##*.}" 2>/dev/null &&
            rm -rf "$folder"
    done
    return 0
}

# run_guests COMMAND: returns its status, or of two the first that is not 0.
run_guests() {
    local status=0 guest got end
    pids=() readers=() sockets=''
    remove_left_over
    work=$cache/run.$$
    rm -rf "$work"
    mkdir "$work"
    [ "$guests" = 1 ] || sockets=$(mktemp -d) # a socket's path must be short
    rm -f "$out"/barrier.*
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    nonce=$$.$RANDOM$RANDOM
    printf '%s\n' "$1" >"$work/command"
    memory=$((3072 / (guests + 1) + 512))M
    end=$((SECONDS + timeout))
    for ((guest = 0; guest < guests; guest++)); do boot "$guest"; done
    # Not by waiting for any child: bash misses one that ends in the moment in
    # which it begins to wait.
    while kill -0 "${pids[@]}" 2>/dev/null; do
        if [ "$SECONDS" -gt "$end" ]; then
            kill -9 "${pids[@]}" 2>/dev/null || true
            status=124
            break
        fi
        sleep 0.1
    done
    wait "${readers[@]}" 2>/dev/null || true
    for ((guest = 0; guest < guests; guest++)); do
        got=$(status_of "$guest")
        if [ -n "$got" ]; then
            [ "$status" != 0 ] || status=$got
            continue
        fi
        echo "lab: guest $guest did not end within $timeout s or failed:" >&2
        tail -n 20 "$work/qemu.$guest" "$work/console.$guest" >&2 || true
        [ "$status" != 0 ] || status=125
    done
    cleanup
    return "$status"
}

# QEMU's own fallback cannot tell a kvm that is there from one that works.
accels=("${LAB_ACCEL:-tcg,thread=multi}")
slow=${LAB_SLOW:-1} rounds=${LAB_ROUNDS:-1}
kernel_options='' guests=1 timeout=300 out='' build=$root/build/release only=''
[ $# -gt 0 ] || usage 2 >&2
action=$1
shift
while [ $# -gt 0 ]; do
    case $1 in
    --guests | --timeout | --out | --build | --only)
        [ $# -gt 1 ] || wrong "$1 needs a value"
        declare "${1#--}=$2"
        shift
        ;;
    --) break ;;
    -h | --help) usage 0 ;;
    *) wrong "unknown option: $1" ;;
    esac
    shift
done
[[ $guests = [12] ]] || wrong "--guests takes 1 or 2"
[[ $slow =~ ^[1-9][0-9]*$ ]] || wrong "LAB_SLOW takes a whole number"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || wrong "LAB_ROUNDS takes a whole number"
[[ $timeout =~ ^[1-9][0-9]*$ ]] || wrong "--timeout takes seconds"

case $action in
-h | --help) usage 0 ;;
prepare)
    prepare
    echo "lab: ready in $cache"
    ;;
run)
    [ "${1:-}" = -- ] && [ $# -gt 1 ] || wrong "-- COMMAND is missing"
    shift
    prepare >&2
    : "${out:=$root/build/lab-out}"
    mkdir -p "$out"
    out=$(cd "$out" && pwd -P)
    [ $# -eq 1 ] && text=$1 || text="exec ${*@Q}"
    run_guests "$text"
    ;;
test) . "$here/test.sh" ;;
*) wrong "unknown action: $action" ;;
esac
