#!/bin/bash
# shellcheck disable=SC2016 # the commands are for the guest
# CXL memory from `cxl list` to mounted volumes, a power cut, and back. Boots a guest of the lab twice
# on the same two emulated devices: make demo-cxl.
set -eu -o pipefail

build=$(cd "$(dirname "$0")/.." && pwd)/build
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# boots COMMANDS: runs them in a guest on these devices, each shown before its output. The power of
# the guest is cut afterwards. What the commands put into the file is in $file, also at the next boot.
file=
boots() {
	"$build/pmemlab" -dimms cxl -dir "$dir" -path "$build" bash -c '
		run() { printf "\$ %s\n" "$*"; "$@" 2>&1; }
		mem() { cxl list -M -s "$1" | jq -r ".[0].memdev"; }
		file=/etc/pmemctl/cxl-regions.json
		if [ -n "$1" ]; then mkdir -p "${file%/*}" && echo "$1" > "$file"; fi
		set -e
		eval "$0"
		echo "=== $file"
		cat "$file"
		sync
		echo b > /proc/sysrq-trigger
		sleep 60' "$1" "$file" > "$dir/out" 2> "$dir/err" || true # it ends with the guest
	sed '/^=== /,$d' "$dir/out"
	file=$(sed '1,/^=== /d' "$dir/out")
	[ -n "$file" ] || { tail -n 5 "$dir/err" >&2; echo "demo-cxl: a command failed" >&2; exit 1; }
}

echo "# Two devices, and no region: nothing of their memory is visible."
boots '
run cxl list -M
run pmemctl dimm list
run pmemctl region list || true
echo "# A region that is interleaved over both, saved for the next boot."
run cxl create-region -m -t pmem -d decoder0.0 -w 2 -g 1024 -s 512M $(mem 0x1234) $(mem 0x5678)
run pmemctl region save
run pmemctl vg init --percent 50
run pmemctl volume create db --type lvm --size 64Mi --mount /mnt/db
run pmemctl volume create cache --type direct --size 64Mi --mount /mnt/cache
echo kept > /mnt/db/file; echo kept > /mnt/cache/file
run pmemctl tree'

echo
echo "# The power was cut. The region is gone, and is created again as it was: at boot, a systemd unit does this."
boots '
run pmemctl region list || true
run pmemctl region restore
for v in db cache; do run pmemctl volume mount $v /mnt/$v; run grep -H kept /mnt/$v/file; done
run pmemctl volume list
for v in db cache; do run pmemctl volume unmount $v; done
vgchange -q -an > /dev/null
echo "# With another granularity the kernel shows everything as before, with scrambled content."
run cxl disable-region region0
run cxl destroy-region region0
run cxl create-region -m -t pmem -d decoder0.0 -w 2 -g 2048 -s 512M $(mem 0x1234) $(mem 0x5678)
run ndctl list -N
run pmemctl volume list || true
run pmemctl volume mount cache /mnt/cache || true
echo "# As it was: all is back."
run cxl disable-region region0
run cxl destroy-region region0
run pmemctl region restore
for v in db cache; do run pmemctl volume mount $v /mnt/$v; run grep -H kept /mnt/$v/file; done'
