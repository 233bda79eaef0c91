#!/bin/sh
# Builds the kernel's emulated NVDIMM bus, tools/testing/nvdimm, for the kernel
# version $1 (as in uname -r) and prints the directory of the modules. Most of
# them replace the kernel's own: what they call is wrapped to find the emulated
# memory.
set -eu

version=$1
here=$(cd "$(dirname "$0")" && pwd)
patch=$here/nfit-test.patch
cache=${PMEMLAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pmemlab}
out=$cache/nfit-test-$version
base=$(echo "$version" | cut -d. -f1,2)
headers=/usr/src/linux-headers-$version
source=/usr/src/linux-source-$base.tar.xz

fail() {
	echo "nfit-test: $*" >&2
	exit 1
}

# One build at a time, and none after the one that was waited for.
mkdir -p "$cache"
exec 9>"$cache/nfit-test.lock"
flock 9

# The patch lies beside the modules it went into, so that a change of it builds anew.
if cmp -s "$patch" "$out/nfit-test.patch"; then
	echo "$out"
	exit
fi

packages="packages linux-source-$base, linux-headers-$version"
for f in "$source" "$headers/Makefile"; do
	[ -e "$f" ] || fail "no $f ($packages)"
done
for tool in make patch strip xz; do
	command -v "$tool" >/dev/null || fail "no $tool (packages make, patch, binutils, xz-utils)"
done

# Modules of another source may load and then misbehave. Kernels of different
# patch levels can have the same name, so Debian's versions are compared.
installed() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || fail "$1 is not installed"; }
of_source=$(installed "linux-source-$base")
of_headers=$(installed "linux-headers-$version")
[ "$of_source" = "$of_headers" ] ||
	fail "linux-source-$base is $of_source, linux-headers-$version is $of_headers: install one version of both"

work=$(mktemp -d "$cache/nfit-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
echo "nfit-test: building the emulated NVDIMM bus for $version" >&2
src=$work/src
mkdir "$src" "$work/modules"
tar -C "$src" --strip-components=1 -xf "$source" \
	"linux-source-$base/drivers/nvdimm" "linux-source-$base/drivers/acpi/nfit" \
	"linux-source-$base/drivers/dax" "linux-source-$base/tools/testing/nvdimm" >&2
patch -d "$src" -p1 --fuzz=0 --batch <"$patch" >&2 ||
	fail "$patch does not fit $source"

# The Kbuild files look for the drivers' private headers in a whole source tree.
test=$src/tools/testing/nvdimm
make -s -j"$(nproc)" -C "$headers" M="$test" \
	KCFLAGS="-I$src/drivers/nvdimm -I$src/drivers/acpi/nfit" modules >"$work/log" 2>&1 || {
	cat "$work/log" >&2
	fail "the build failed ($packages)"
}
cp "$test"/*.ko "$test"/test/*.ko "$work/modules"
strip --strip-debug "$work"/modules/*.ko

# The Kbuild files leave out, without a word, what is not configured as a module.
for m in nfit_test nfit_test_iomap libnvdimm nfit nd_btt nd_pmem nd_e820 device_dax dax_pmem; do
	[ -e "$work/modules/$m.ko" ] || fail "the build made no $m.ko"
done
cp "$patch" "$work/modules"
rm -rf "$out"
mv "$work/modules" "$out"
echo "$out"
