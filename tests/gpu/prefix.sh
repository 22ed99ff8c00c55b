#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Packs what a build needs from Debian's packages into an archive, for a machine
# with a GPU that can install nothing:
#
#     tests/gpu/prefix.sh FILE.tar.gz
#     tests/gpu/run.sh --prefix FILE.tar.gz        # there
#
# Programs find these libraries by their own run path; what the machine has
# itself (cmake, python3) never sees them.
set -eu

[ $# = 1 ] || { echo "usage: tests/gpu/prefix.sh FILE.tar.gz" >&2; exit 2; }
packages="pkgconf-bin libpkgconf3 libcmocka-dev libcmocka0 liblz4-dev liblz4-1
    libzstd-dev libzstd1 zlib1g-dev zlib1g libopenblas-dev
    libopenblas-pthread-dev libopenblas0-pthread libgfortran5 libquadmath0
    libssl-dev libssl3 libjansson-dev libjansson4"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debs" "$work/prefix"
# shellcheck disable=SC2086
(cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download $packages)
for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/prefix"
done
cd "$work/prefix"
libs=usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null ||
    gcc -print-multiarch)
rm -rf usr/share etc
find . \( -name '*.a' -o -name 'liblapack*' -o -name '*.la' \) -delete
# Libraries of /lib, and those that alternatives would link.
if [ -d lib ]; then
    cp -a lib/. usr/lib/
    rm -rf lib
fi
# What points to a place of the system points to its own.
find "$libs" -type l | while read -r link; do
    target=$(readlink "$link")
    [ "${target#/}" = "$target" ] || ln -sf "${target##*/}" "$link"
done
for blas in "$libs"/openblas-pthread/libopenblas*; do
    ln -s "openblas-pthread/${blas##*/}" "$libs/${blas##*/}"
done
cp "$libs/openblas-pthread/pkgconfig/openblas.pc" "$libs/pkgconfig/"
cat >pkg-config <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for libs in "$here"/usr/lib/*-linux-gnu; do
    PKG_CONFIG_LIBDIR=$libs/pkgconfig PKG_CONFIG_SYSROOT_DIR=$here \
        LD_LIBRARY_PATH=$libs exec "$here/usr/bin/pkgconf" "$@"
done
END
chmod +x pkg-config
cd - >/dev/null
tar -C "$work/prefix" -czf "$1" .
ls -l "$1"
