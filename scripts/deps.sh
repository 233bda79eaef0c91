#!/bin/sh
# Installs missing Debian packages; prints nothing if none is missing. With the argument
# "image" or "kubernetes" also those for make image or make test-k8s.
set -eu

packages="
build-essential libndctl-dev libdaxctl-dev
ndctl daxctl lvm2 e2fsprogs xfsprogs util-linux udev kmod psmisc fio jq runc
qemu-system-x86 cpio xz-utils patch
linux-headers-amd64 linux-source-6.1
shellcheck man-db
"
for what in "$@"; do
	case $what in
	image) packages="$packages mmdebstrap umoci" ;;
	kubernetes) packages="$packages etcd-server containerd crun containernetworking-plugins iproute2 iptables busybox-static curl redis-tools memcached" ;;
	esac
done

missing=""
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -z "$missing" ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "deps: this needs Debian 12, or these packages by their names on your system:$missing" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	sudo=sudo
else
	sudo=
fi
echo "deps: installing$missing"
# The package lists may be older than the archive.
apt="apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086 # lists of words, here and below
$sudo $apt update
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends $missing >/dev/null
