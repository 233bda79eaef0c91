#!/bin/sh
# Unpacks Debian's kernel package into the cache, without installing it, and
# prints the directory: it holds boot/vmlinuz-VERSION and lib/modules/VERSION.
set -eu

cache=${PMEMLAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pmemlab}
mkdir -p "$cache"

# A kernel that is in the cache is kept, so that a guest works without network.
# The newest is taken by its version, not by the alphabet.
newest() { find "$cache" -maxdepth 1 -name 'linux-image-*' -type d | sort -V | tail -n 1; }

found=$(newest)
if [ -z "$found" ]; then
	package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
	if [ -z "$package" ]; then
		echo "fetch-kernel: apt knows no linux-image-amd64; run 'apt-get update' and try again" >&2
		exit 1
	fi
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && apt-get download -q -o Acquire::Retries=5 "$package" >&2)
	dpkg-deb -x "$work/$package"_*.deb "$work/root"
	mv "$work/root" "$cache/$package"
	found=$(newest)
fi
echo "$found"
