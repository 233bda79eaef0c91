#!/bin/bash
# What pmemctl costs beside the bare commands, and a volume beside the raw PMEM,
# as ratios of runs that alternate in one guest. Runs in the lab guest only (make
# bench): it destroys what is on the PMEM. A ratio that is missed is no error.
#
# BENCH_PAIRS, BENCH_LIVES, BENCH_FIO: how often each is run.
set -euo pipefail
export LC_ALL=C # EPOCHREALTIME with a point

# By its root too: a machine with PMEM may well have that name.
if [ "$(hostname)" != pmemlab ] || ! grep -q '^overlay / overlay .*lowerdir=/host,upperdir=/rw/upper' /proc/mounts; then
	echo "bench: this destroys all data on the PMEM of the machine, and runs in the lab guest only: make bench" >&2
	exit 1
fi

pairs=${BENCH_PAIRS:-15} lives=${BENCH_LIVES:-7} fio_runs=${BENCH_FIO:-3}
size=64Mi size_mib=64 # of a volume whose life is timed
span_mib=256          # of a file or device that is read and written
seconds=3             # of one run of fio
sources=$(dirname "$(realpath "$0")")/bench

work=$(mktemp -d)
log=$work/log
trap 'rm -rf "$work"' EXIT
trap 'echo "bench: broken at line $LINENO: $BASH_COMMAND" >&2; tail -n 20 "$log" >&2' ERR
: >"$log"

say() { printf 'bench: %s\n' "$*" >&2; }

# --- taking times -----------------------------------------------------------

# timed KEY COMMAND...: runs it and adds the microseconds to the samples of KEY.
timed() {
	local key=$1 begin=${EPOCHREALTIME/./}
	shift
	"$@" >>"$log" 2>&1
	echo $((${EPOCHREALTIME/./} - begin)) >>"$work/$key"
}

# alternate COUNT A B: calls A and B in turns, A B B A …
alternate() {
	local i
	for ((i = 0; i < $1; i++)); do
		if ((i % 2)); then "$3" && "$2"; else "$2" && "$3"; fi
		printf . >&2
	done
	echo >&2
}

# median KEY, best KEY: of the samples.
median() { sort -n "$work/$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'; }
best() { sort -n "$work/$1" | tail -n 1; }
ms() { awk -v us="$(median "$1")" 'BEGIN { printf "%.0f", us / 1000 }'; }

# --- the table --------------------------------------------------------------

rows=()
row() { rows+=("$(printf '%-58s %12s %12s %6s %7s  %s' "$@")"); }

# at_most WHAT A B TARGET: a time of pmemctl's beside the bare one.
at_most() {
	local r
	r=$(awk -v a="$(median "$2")" -v b="$(median "$3")" -v t="$4" 'BEGIN { printf "%.2f %s", a / b, (a / b <= t) ? "met" : "MISSED" }')
	row "$1" "$(ms "$2") ms" "$(ms "$3") ms" "${r% *}" "<= $4" "${r#* }"
}

# at_least WHAT A B TARGET: operations per second of a volume beside the raw device.
at_least() {
	local r
	r=$(awk -v a="$(best "$2")" -v b="$(best "$3")" -v t="$4" 'BEGIN { printf "%.2f %s", a / b, (a / b >= t) ? "met" : "MISSED" }')
	row "$1" "$(best "$2") /s" "$(best "$3") /s" "${r% *}" ">= $4" "${r#* }"
}

# --- lives of a volume ------------------------------------------------------

pmemctl_life() { # TYPE FLAG VALUE
	timed "$1.create" pmemctl volume create bench --type "$1" "$2" "$3" --size "$size" --fs ext4
	timed "$1.mount" pmemctl volume mount bench /mnt/bench
	timed "$1.unmount" pmemctl volume unmount bench
	timed "$1.delete" pmemctl volume delete bench --force --no-erase
}

lvm_pmemctl() { timed lvm.pmemctl pmemctl_life lvm --vg pmemvgregion0; }
lvm_bare() { timed lvm.bare lvm_bare_life; }
lvm_bare_life() {
	timed lvm.lvcreate lvcreate -y -L "${size_mib}m" -n bare pmemvgregion0
	timed lvm.mkfs mkfs.ext4 -b 4096 /dev/pmemvgregion0/bare
	timed lvm.rawmount mount -o dax /dev/pmemvgregion0/bare /mnt/bare
	timed lvm.umount umount /mnt/bare
	timed lvm.lvremove lvremove -f pmemvgregion0/bare
}

direct_pmemctl() { timed direct.pmemctl pmemctl_life direct --region region1; }
direct_bare() { timed direct.bare direct_bare_life; }
direct_bare_life() {
	timed direct.createns create_namespace fsdax "$direct_raw"
	timed direct.mkfs mkfs.ext4 -b 4096 "$made"
	timed direct.rawmount mount -o dax "$made" /mnt/bare
	timed direct.umount umount /mnt/bare
	timed direct.destroyns ndctl destroy-namespace -f "$namespace"
}

# create_namespace MODE BYTES: sets made, its device, and namespace.
create_namespace() {
	local told
	told=$(ndctl create-namespace -r region1 -m "$1" -s "$2")
	[[ $told =~ \"(blockdev|chardev)\":\"([^\"]+)\" ]]
	made=/dev/${BASH_REMATCH[2]}
	[[ $told =~ \"dev\":\"([^\"]+)\" ]]
	namespace=${BASH_REMATCH[1]}
}

direct_life() { # WHAT: with or without a volume group on the machine
	say "life of a direct volume, $1 ($lives each)"
	rm -f "$work"/direct.*
	alternate "$lives" direct_pmemctl direct_bare
	at_most "life, direct, $1" direct.pmemctl direct.bare 1.2
	breakdown "direct, $1" direct "create mount unmount delete" "createns mkfs rawmount umount destroyns"
}

details=()
breakdown() { # TITLE PREFIX PMEMCTL-STEPS BARE-STEPS
	local line k
	line="  pmemctl:"
	for k in $3; do line+=" $k $(ms "$2.$k")"; done
	line+="; bare:"
	for k in $4; do line+=" ${k#raw} $(ms "$2.$k")"; done
	details+=("$1" "$line")
}

# --- input and output -------------------------------------------------------

# fio_run KEY TARGET FIO-ARGUMENT...: adds the operations per second to KEY.
fio_run() {
	local key=$1 target=$2
	shift 2
	# Fields 8 and 49 of fio's terse output, version 3, are reads and writes per second.
	fio --name=bench --filename="$target" --bs=4k --size="${span_mib}M" --runtime="$seconds" --time_based --norandommap \
		--invalidate=0 --gtod_reduce=1 --minimal "$@" 2>>"$log" | awk -F ';' '{ printf "%.0f\n", $8 + $49; exit }' >>"$work/$key"
	printf . >&2
}

# mapped_run KEY TARGET read|write
mapped_run() {
	local told
	told=$("$work/mapped" "$2" "$3" "$span_mib" 2 2>>"$log")
	echo "${told% *}" >>"$work/$1"
	echo "${told#* }" >"$work/$1.faults"
	printf . >&2
}

# orders I: the three targets, in another order each time.
orders() {
	case $(($1 % 3)) in
	0) echo raw lvm direct ;;
	1) echo direct raw lvm ;;
	2) echo lvm direct raw ;;
	esac
}

# --- all of it --------------------------------------------------------------

pmemctl region init-labels --all --force >>"$log"
mkdir -p /mnt/bench /mnt/bare
wait_for_udev() { udevadm settle --timeout=10 || true; }
wait_for_udev

regions_pmemctl() { timed list.pmemctl pmemctl region list -o json; }
regions_bare() { timed list.bare ndctl list -R; }
say "region list ($pairs each)"
alternate "$pairs" regions_pmemctl regions_bare
at_most "pmemctl region list -o json / ndctl list -R" list.pmemctl list.bare 1.2

nothing_pmemctl() { timed start.pmemctl pmemctl completion bash; }
nothing_bare() { timed start.true /bin/true; }
say "start of a program that does nothing"
alternate 7 nothing_pmemctl nothing_bare
details+=("start of a program" "  pmemctl completion bash $(ms start.pmemctl); /bin/true $(ms start.true)")

direct_raw=$(pmemctl volume create bench --type direct --region region1 --size "$size" --dry-run -o json | jq .plan.raw)
direct_life "no volume group on the machine"

pmemctl vg init region0 --percent 50 >>"$log"
wait_for_udev
direct_life "with a volume group"

say "life of an lvm volume ($lives each)"
alternate "$lives" lvm_pmemctl lvm_bare
at_most "life, lvm" lvm.pmemctl lvm.bare 1.3
breakdown "lvm" lvm "create mount unmount delete" "lvcreate mkfs rawmount umount lvremove"

say "clearing"
lvcreate -y -L 512m -n clear pmemvgregion0 >>"$log" 2>&1
blkdiscard -z /dev/pmemvgregion0/clear # the first time the host finds the memory for it
for _ in 1 2 3; do timed clear.all blkdiscard -z /dev/pmemvgregion0/clear; done
for _ in 1 2 3; do timed clear.one blkdiscard -z -l "${size_mib}M" /dev/pmemvgregion0/clear; done
lvremove -f pmemvgregion0/clear >>"$log" 2>&1
details+=("clearing, which only pmemctl does at create" "  $size: $(ms clear.one); $(awk -v us="$(median clear.all)" 'BEGIN { printf "%.2f", 0.5 / (us / 1e6) }') GiB/s (blkdiscard -z of 512 MiB)")

say "devices to read and write"
gcc -O2 -o "$work/mapped" "$sources/mapped.c"
create_namespace fsdax 400M
raw=$made
create_namespace devdax 400M
devdax=$made
pmemctl volume create lvm --type lvm --vg pmemvgregion0 --size 384Mi >>"$log"
pmemctl volume create direct --type direct --region region1 --size 384Mi >>"$log"
for v in lvm direct; do
	pmemctl volume mount "$v" "/mnt/$v" >>"$log"
	dd if=/dev/zero of="/mnt/$v/file" bs=4M count=$((span_mib / 4)) conv=fsync status=none
done
blkdiscard -z -l "${span_mib}M" "$raw"
declare -A block=([raw]=$raw [lvm]=/mnt/lvm/file [direct]=/mnt/direct/file)
declare -A mapped=([raw]=$devdax [lvm]=/mnt/lvm/file [direct]=/mnt/direct/file)

say "fio and mapped reads and writes ($fio_runs each)"
for ((i = 0; i < fio_runs; i++)); do
	for t in $(orders "$i"); do
		for rw in randread randwrite; do
			fio_run "psync.$rw.$t" "${block[$t]}" --ioengine=psync --direct=1 --rw="$rw"
		done
		# libpmem stores past the caches into a mapping with MAP_SYNC.
		[ "$t" = raw ] || fio_run "libpmem.randwrite.$t" "${block[$t]}" --ioengine=libpmem --direct=1 --rw=randwrite
		for rw in read write; do mapped_run "mapped.$rw.$t" "${mapped[$t]}" "$rw"; done
	done
done
echo >&2
for t in lvm direct; do
	for rw in randread randwrite; do
		at_least "fio $rw, O_DIRECT, $t / raw $raw" "psync.$rw.$t" "psync.$rw.raw" 0.9
	done
	at_least "fio randwrite, MAP_SYNC, $t / O_DIRECT, raw $raw" "libpmem.randwrite.$t" psync.randwrite.raw 0.9
	for rw in read write; do
		at_least "MAP_SYNC $rw, $t / raw $devdax, mapped too" "mapped.$rw.$t" "mapped.$rw.raw" 0.9
	done
done
f() { cat "$work/mapped.write.$1.faults"; }
details+=("page faults to touch $span_mib MiB through MAP_SYNC ($((span_mib / 2)): all huge)" "  devdax $(f raw), lvm $(f lvm), direct $(f direct)")

pmemctl volume unmount lvm >>"$log"
pmemctl volume unmount direct >>"$log"

printf '%-58s %12s %12s %6s %7s\n' what pmemctl bare ratio target
printf '%s\n' "${rows[@]}"
printf '\nWhere the time goes (median, ms), volumes of %s; pmemctl also clears a new volume:\n' "$size"
printf '%s\n' "${details[@]}"
printf '\nTimes are medians, operations per second the best, of runs in turns in one emulated guest (%s s in all).\n' "$SECONDS"
printf 'Only the ratios say something; no hardware is that slow. A mapping of a raw %s is no\n' "$raw"
printf 'baseline: it is page cache. A devdax device is raw PMEM that can be mapped with MAP_SYNC.\n'
