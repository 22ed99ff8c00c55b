#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# init.sh - the first process of the guest, out of the initramfs: loads the
# modules, puts the host's files together and runs inside.sh among them. All
# that it writes is read-only for the host, or in memory, or in OUT.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module" || echo "lab: cannot load $module"
done </modules/order

# mount_host TAG PLACE OPTION...
mount_host() {
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576$3" "$1" "$2" ||
        echo "lab: cannot mount $1"
}
mkdir -p /mnt /lab /keep
mount_host lab /lab ,ro
. /lab/settings # SOURCE_DIR OUT NONCE
mount_host host /mnt ,ro,cache=loose

# The sources stay where they are, even below a folder that is hidden now.
mount -o bind "/mnt$SOURCE_DIR" /keep
for folder in tmp run var/tmp; do
    mount -t tmpfs -o mode=1777 tmpfs "/mnt/$folder"
done
mkdir -p "/mnt$SOURCE_DIR"
mount -o move /keep "/mnt$SOURCE_DIR"
mkdir -p "/mnt$OUT"
mount_host out "/mnt$OUT" ,cache=none
mkdir -p /mnt/run/lab
mount -o move /lab /mnt/run/lab
mount -t proc proc /mnt/proc
mount -t sysfs sysfs /mnt/sys
mount -t devtmpfs dev /mnt/dev
mount -t debugfs debugfs /mnt/sys/kernel/debug
mkdir -p /mnt/dev/shm /mnt/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /mnt/dev/shm
mount -t devpts devpts /mnt/dev/pts
ln -s /proc/self/fd /mnt/dev/fd
ln -s fd/0 /mnt/dev/stdin
ln -s fd/1 /mnt/dev/stdout
ln -s fd/2 /mnt/dev/stderr

# What COMMAND writes goes through a pipe, so that what it leaves running holds
# the pipe and not the port, and can be ended before the last bytes are sent.
port=
for name in /sys/class/virtio-ports/*; do
    [ "$(cat "$name/name")" = lab.out ] && port=/dev/${name##*/}
done
mkfifo /pipe
cat /pipe >"$port" &
cat=$!
# The host's file may not be executable for whoever runs there.
chroot /mnt /bin/bash "$SOURCE_DIR/tests/rdma/inside.sh" \
    </dev/null >/pipe 2>&1
status=$?
for process in /proc/[0-9]*; do
    pid=${process##*/}
    [ "$pid" != 1 ] && [ "$pid" != "$cat" ] && [ -s "$process/cmdline" ] &&
        kill -9 "$pid"
done
wait "$cat"
echo "lab-status $NONCE $status" >/dev/ttyS0
/bin/busybox poweroff -f
