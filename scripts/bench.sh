#!/bin/bash
# What pmemctl costs beside the bare commands, and a volume beside the raw PMEM,
# as ratios of runs that alternate in one guest. Runs in the lab guest only (make
# bench): it destroys what is on the PMEM. A ratio that is missed is no error.
#
# BENCH_PARTS: which parts, of "list cli csi fio", "sizes large quiet", or "huge" alone; the last two need
# larger DIMMs (make bench-sizes, make bench-huge). BENCH_PAIRS, BENCH_LIVES,
# BENCH_FIO: how often each is run. BENCH_MANY: how many volumes are many. One part
# alone is build/pmemlab -path $PWD/build -env BENCH_PARTS=csi scripts/bench.sh
set -Eeuo pipefail
export LC_ALL=C # EPOCHREALTIME with a point

# By its root too: a machine with PMEM may well have that name.
if [ "$(hostname)" != pmemlab ] || ! grep -q '^overlay / overlay .*lowerdir=/host,upperdir=/rw/upper' /proc/mounts; then
	echo "bench: this destroys all data on the PMEM of the machine, and runs in the lab guest only: make bench" >&2
	exit 1
fi

parts=${BENCH_PARTS:-list cli csi fio}
pairs=${BENCH_PAIRS:-15} lives=${BENCH_LIVES:-7} fio_runs=${BENCH_FIO:-3} many=${BENCH_MANY:-500}
size=64Mi size_mib=64 # of a volume whose life is timed
span_mib=256          # of a file or device that is read and written
seconds=3             # of one run of fio
sources=$(dirname "$(realpath "$0")")/bench

work=$(mktemp -d)
log=$work/log
server="" # process of the CSI server
ended() {
	local status=$?
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ "$status" -eq 0 ] || tail -n 20 "$log" >&2
	rm -rf "$work"
}
trap ended EXIT
trap 'echo "bench: broken at line $LINENO: $BASH_COMMAND" >&2' ERR
: >"$log"

say() { printf 'bench: %s\n' "$*" >&2; }
part() { [[ " $parts " == *" $1 "* ]]; }

# --- taking times -----------------------------------------------------------

# timed KEY COMMAND...: runs it and adds the microseconds to the samples of KEY. What
# a program prints goes to the log; a function prints what breaks in it.
timed() {
	local key=$1 begin=${EPOCHREALTIME/./}
	shift
	if declare -F "$1" >/dev/null; then "$@"; else "$@" >>"$log" 2>&1; fi
	echo $((${EPOCHREALTIME/./} - begin)) >>"$work/$key"
}

# alternate COUNT A B: calls A and B in turns, A B B A …
alternate() {
	local i
	for ((i = 0; i < $1; i++)); do
		if ((i % 2)); then
			"$3"
			"$2"
		else
			"$2"
			"$3"
		fi
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
row() {
	rows+=("$(printf '%-58s %12s %12s %6s %7s  %s' "$@")")
	say "${rows[-1]}"
}

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

# as_fast WHAT A B TARGET: how many times as fast as the bare one pmemctl is.
as_fast() {
	local r
	r=$(awk -v a="$(median "$2")" -v b="$(median "$3")" -v t="$4" 'BEGIN { printf "%.2f %s", b / a, (b / a >= t) ? "met" : "MISSED" }')
	row "$1" "$(ms "$2") ms" "$(ms "$3") ms" "${r% *}" ">= $4" "${r#* }"
}

# no_more WHAT VALUE UNIT TARGET: what has nothing bare beside it.
no_more() {
	row "$1" "$2 $3" - - "<= $4" "$(awk -v v="$2" -v t="$4" 'BEGIN { print (v <= t) ? "met" : "MISSED" }')"
}

# same WHAT LARGE SMALL TARGET [BARE-LARGE BARE-SMALL]: a time for a large size beside that
# for a small one, less what the bare one grows by.
same() {
	local r bare=0
	[ $# -lt 6 ] || bare=$(awk -v a="$(median "$5")" -v b="$(median "$6")" 'BEGIN { print (a > b) ? a - b : 0 }')
	r=$(awk -v a="$(median "$2")" -v b="$(median "$3")" -v bare="$bare" -v t="$4" 'BEGIN { r = (a - bare) / b; printf "%.2f %s", r, (r <= t) ? "met" : "MISSED" }')
	row "$1" "$(ms "$2") ms" "$(ms "$3") ms" "${r% *}" "<= $4" "${r#* }"
}

# --- lives of a volume ------------------------------------------------------

pmemctl_life() { # TYPE FLAG VALUE
	timed "$1.create+mount" pmemctl volume create bench --type "$1" "$2" "$3" --size "$size" --fs ext4 --mount /mnt/bench
	timed "$1.unmount+delete" pmemctl volume delete bench --unmount --force --no-erase
}

pmemctl_steps() { # TYPE FLAG VALUE: the same with a command for each step
	timed "$1.create" pmemctl volume create bench --type "$1" "$2" "$3" --size "$size" --fs ext4
	timed "$1.mount" pmemctl volume mount bench /mnt/bench
	timed "$1.unmount" pmemctl volume unmount bench
	timed "$1.delete" pmemctl volume delete bench --force --no-erase
}

ndctl=(ndctl) # or with a lock in front
lvm_pmemctl() { timed lvm.pmemctl pmemctl_life lvm --vg pmemvgregion0; }
lvm_steps() { timed lvm.steps pmemctl_steps lvm --vg pmemvgregion0; }
lvm_bare() { timed lvm.bare lvm_bare_life lvm bare; }
lvm_bare_life() { # KEY NAME [TARGET]
	timed "$1.lvcreate" lvcreate -y -L "${size_mib}m" -n "$2" pmemvgregion0
	timed "$1.mkfs" mkfs.ext4 -b 4096 "/dev/pmemvgregion0/$2"
	bare_mount "$1" "/dev/pmemvgregion0/$2" "/mnt/$2" "${3-}"
	timed "$1.lvremove" lvremove -f "pmemvgregion0/$2"
}

direct_pmemctl() { timed direct.pmemctl pmemctl_life direct --region region1; }
direct_steps() { timed direct.steps pmemctl_steps direct --region region1; }
direct_bare() { timed direct.bare direct_bare_life direct bare; }
direct_bare_life() { # KEY NAME [TARGET]
	timed "$1.createns" create_namespace fsdax "$direct_raw"
	timed "$1.mkfs" mkfs.ext4 -b 4096 "$made"
	bare_mount "$1" "$made" "/mnt/$2" "${3-}"
	timed "$1.destroyns" "${ndctl[@]}" destroy-namespace -f "$namespace"
}

# bare_mount KEY DEVICE PATH TARGET: mounts and unmounts, also on TARGET if that is
# not empty, as a CSI server publishes.
bare_mount() {
	timed "$1.rawmount" mount -o dax "$2" "$3"
	if [ -n "$4" ]; then
		timed "$1.bind" mount --bind "$3" "$4"
		timed "$1.unbind" umount "$4"
	fi
	timed "$1.umount" umount "$3"
}

# create_namespace MODE BYTES [REGION]: sets made, its device, and namespace.
create_namespace() {
	local told
	told=$("${ndctl[@]}" create-namespace -r "${3-region1}" -m "$1" -s "$2" 2>>"$log")
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
	breakdown "direct, $1" direct "create+mount unmount+delete" "createns mkfs rawmount umount destroyns"
	for _ in 1 2 3; do direct_steps; done
	breakdown "  with four commands: $(ms direct.steps)" direct "create mount unmount delete" ""
}

details=()
breakdown() { # TITLE PREFIX PMEMCTL-STEPS BARE-STEPS
	local line k
	line="  pmemctl:"
	for k in $3; do line+=" $k $(ms "$2.$k")"; done
	[ -z "$4" ] || line+="; bare:"
	for k in $4; do line+=" ${k#raw} $(ms "$2.$k")"; done
	details+=("$1" "$line")
	say "$1:$line"
}

# --- the CSI server ---------------------------------------------------------

endpoint=unix:///run/bench/csi.sock
client() { csiclient --endpoint "$endpoint" "$@" 2>>"$log"; }

start_server() {
	pmemctl serve-csi --endpoint "$endpoint" --nodeid bench --kubelet-dir /mnt/csi --v 0 >>"$log" 2>&1 &
	server=$!
	client capacity >>"$log" # waits until it answers
}

stop_server() {
	kill "$server"
	wait "$server"
	server=""
}

# resident: MiB of memory of the server; ticks: hundredths of a second that it ran.
resident() { awk '/^VmRSS:/ { printf "%.1f", $2 / 1024 }' "/proc/$server/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }

# client_times KEY COMMAND...: adds the times that csiclient prints, pairs of a word
# and microseconds, to the samples of KEY.WORD.
client_times() {
	local key=$1 told words i
	shift
	told=$(client "$@")
	read -ra words <<<"$told"
	for ((i = 0; i < ${#words[@]}; i += 2)); do echo "${words[i + 1]}" >>"$work/$key.${words[i]}"; done
}

# csi_life and csi_bare: one life of a volume of the kind for each of the clients at
# once, with a target that it is published on. The time of csiclient's own start does
# not count.
erase=(--no-erase)
csi_life() {
	local where=()
	[ "$kind" = lvm ] || where=(--region region1) # as the bare one
	client_times "$key" lives --type "$kind" "${where[@]}" --size "$size" --fs ext4 "${erase[@]}" --parallel "$clients" --prefix "$key" --dir /mnt/csi
}

csi_bare() {
	if ((clients == 1)); then
		timed "$key.bare" "${kind}_bare_life" "$key" bare0 /mnt/target0
	else
		timed "$key.bare" bare_at_once "$key"
	fi
}

bare_lvcreates() { # KEY
	local i
	for i in 1 2 3 4 5; do timed "$1" lvcreate -y -L 4m -n "$1$i" pmemvgregion0; done
	for i in 1 2 3 4 5; do lvremove -f "pmemvgregion0/$1$i" >>"$log" 2>&1; done
}

bare_at_once() { # KEY
	local i jobs=()
	# Two ndctl at once may both take the namespace that the kernel keeps ready for the
	# next one. The lock around each of them costs the start of a small program.
	local ndctl=(flock --no-fork "$work/ndctl.lock" ndctl)
	for ((i = 0; i < clients; i++)); do
		"${kind}_bare_life" "$1" "bare$i" "/mnt/target$i" &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do wait "$i"; done
}

# erased: what was deleted is erased, where no time is taken. Now and then the host takes
# the zeros back, within five seconds.
erased() {
	pmemctl gc --erase-rate max >>"$log" 2>&1
	sleep 6
}
# not_erased: what was deleted is removed as it is.
not_erased() { pmemctl gc --give-up "$(pmemctl volume list -o json | jq -r '.volumes[] | select(.state == "deleting").uuid')" >>"$log" 2>&1; }

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
mkdir -p /mnt/bench /mnt/bare /mnt/{bare,target}{0..3}
wait_for_udev() { udevadm settle --timeout=10 || true; }
wait_for_udev

if part list; then
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
fi

if part huge; then # one DIMM, nearly all of it
	mkdir -p /run/pmemctl
	flock /run/pmemctl/eraser.lock sleep infinity & # nothing is erased
	eraser=$!
	gib() { pmemctl capacity -o json | jq ".capacities[] | select(.type == \"$1\").largest_possible / 1073741824 | floor"; }
	huge_row() { row "$1" "$(awk -v us="$(median "$2")" 'BEGIN { printf "%.1f", us / 1e6 }') s" "${3--}" - - -; }
	bare() { awk -v us="$(median "$1")" 'BEGIN { printf "%.1f s", us / 1e6 }'; }
	n=$(gib direct)
	say "direct volumes of $n GiB"
	timed huge.bare.direct create_namespace fsdax "$((n - n / 50))G" region0
	timed huge.bare.mkfs.ext4 mkfs.ext4 -b 4096 "$made"
	ndctl destroy-namespace -f "$namespace" >>"$log" 2>&1
	for fs in ext4 xfs; do
		timed "huge.direct.$fs" pmemctl volume create h --type direct --size "${n}Gi" --fs "$fs"
		timed "huge.direct.delete.$fs" pmemctl volume delete h --force --wait=false
		not_erased
	done
	huge_row "create $n GiB, direct, ext4" huge.direct.ext4
	huge_row "create $n GiB, direct, xfs" huge.direct.xfs
	huge_row "delete $n GiB, direct" huge.direct.delete.ext4
	details+=("bare, direct, seconds" "  create-namespace $(bare huge.bare.direct), mkfs.ext4 $(bare huge.bare.mkfs.ext4)")
	timed huge.vg pmemctl vg init region0
	wait_for_udev
	n=$(gib lvm)
	say "lvm volumes of $n GiB"
	for fs in ext4 xfs; do
		timed "huge.lvm.$fs" pmemctl volume create h --type lvm --size "$((n / 2))Gi" --fs "$fs" --mount /mnt/bench
		timed "huge.expand.$fs" pmemctl volume expand h --size "${n}Gi"
		timed "huge.lvm.delete.$fs" pmemctl volume delete h --unmount --force --wait=false
		not_erased
	done
	huge_row "vg init, all of the region" huge.vg
	for fs in ext4 xfs; do
		huge_row "create $((n / 2)) GiB, lvm, $fs" "huge.lvm.$fs"
		huge_row "expand to $n GiB, lvm, $fs, mounted" "huge.expand.$fs"
		huge_row "delete $n GiB, lvm, $fs" "huge.lvm.delete.$fs"
	done
	kill "$eraser"
fi

if [ "$parts" != huge ]; then
	direct_raw=$(pmemctl volume create bench --type direct --region region1 --size "$size" --dry-run -o json | jq .plan.raw)
fi
if part cli; then direct_life "no volume group on the machine"; fi

if [ "$parts" != huge ]; then
	pmemctl vg init region0 --percent 50 >>"$log"
	wait_for_udev
fi

if part cli; then
	direct_life "with a volume group"

	say "life of an lvm volume ($lives each)"
	alternate "$lives" lvm_pmemctl lvm_bare
	at_most "life, lvm" lvm.pmemctl lvm.bare 1.3
	breakdown "lvm" lvm "create+mount unmount+delete" "lvcreate mkfs rawmount umount lvremove"
	for _ in 1 2 3; do lvm_steps; done
	breakdown "  with four commands: $(ms lvm.steps)" lvm "create mount unmount delete" ""

	say "zeroing 1 GiB"
	# The eraser's lock is held, so that nothing is erased but by what is timed.
	mkdir -p /run/pmemctl
	flock /run/pmemctl/eraser.lock sleep infinity &
	eraser=$!
	zero_deleted() { # KEY SIZE RATE
		pmemctl volume create zero --type lvm --vg pmemvgregion0 --size "$2" >>"$log"
		pmemctl volume delete zero --force --wait=false >>"$log" 2>&1
		timed "zero.$1" pmemctl gc --erase-rate "$3"
	}
	dd_zero() { dd if=/dev/zero of=/dev/pmemvgregion0/zero bs=1M oflag=direct status=none seek="$1" count="$2"; }
	dd_four() {
		local i jobs=()
		for i in 0 1 2 3; do
			dd_zero $((i * 256)) 256 &
			jobs+=($!)
		done
		for i in "${jobs[@]}"; do wait "$i"; done
	}
	zero_deleted first 1Gi max # the host finds the memory for it
	for ((i = 0; i < 3; i++)); do
		zero_deleted none 2Mi max
		zero_deleted one 1Gi 100%
		zero_deleted all 1Gi max
		lvcreate -y -L 1g -n zero pmemvgregion0 >>"$log" 2>&1
		timed zero.blkzeroout blkdiscard -z /dev/pmemvgregion0/zero
		timed zero.dd dd_zero 0 1024
		timed zero.four dd_four
		lvremove -f pmemvgregion0/zero >>"$log" 2>&1
	done
	kill "$eraser"
	# What a gc does besides is not zeroing.
	net() { awk -v a="$(median "zero.$1")" -v b="$(median zero.none)" 'BEGIN { printf "%.0f\n", a - b }' >"$work/zero.net.$1"; }
	net one
	net all
	fastest=$(for k in dd four blkzeroout; do echo "$(median "zero.$k") $k"; done | sort -n | head -n 1)
	as_fast "zeroing 1 GiB, all workers / the fastest, ${fastest#* }" zero.net.all "zero.${fastest#* }" 0.95
	rate() { awk -v us="$(median "zero.$1")" 'BEGIN { printf "%.0f", 1024 / (us / 1e6) }'; }
	details+=("zeroing, MiB/s" "  one worker $(rate net.one), all workers $(rate net.all); BLKZEROOUT $(rate blkzeroout), dd $(rate dd), four dd $(rate four)")
fi

if part csi; then
	start_server
	at_start=$(resident)
	for clients in 1 4; do
		for kind in lvm direct; do
			key=csi-$kind-$clients
			say "lives of $kind volumes over CSI, $clients at once ($lives each)"
			alternate "$lives" csi_life csi_bare
			if ((clients == 1)); then
				at_most "life over CSI, $kind" "$key.total" "$key.bare" 1.25
			else
				as_fast "life over CSI, $kind, $clients at once: throughput" "$key.total" "$key.bare" 1
			fi
			if [ "$kind" = lvm ]; then ends="lvcreate lvremove"; else ends="createns destroyns"; fi
			breakdown "CSI, $kind, $clients at once" "$key" "create stage publish unpublish unstage delete" "${ends% *} mkfs rawmount bind unbind umount ${ends#* }"
		done
	done

	for kind in lvm direct; do
		say "20 $kind volumes at once ($lives times)"
		many_life() { clients=20 key=csi-$kind-20 csi_life; }
		one_life() { clients=1 key=csi-$kind-one csi_life; }
		alternate "$lives" many_life one_life
		each=$(median "csi-$kind-20.total")
		awk -v us="$each" 'BEGIN { printf "%.0f\n", us / 20 }' >"$work/csi-$kind-each.total"
		at_most "one of 20 $kind volumes at once / one alone" "csi-$kind-each.total" "csi-$kind-one.total" 1.5
		breakdown "CSI, $kind, 20 at once" "csi-$kind-20" "create stage publish unpublish unstage delete" ""
	done

	say "the server at rest"
	wait_for_udev
	sleep 5
	had=$(ticks)
	sleep 10
	no_more "CSI server at rest: memory" "$(resident)" MiB 40
	no_more "CSI server at rest: ticks (10 ms) of the processor in 10 s" "$(($(ticks) - had))" ticks 0
	no_more "size of the program" "$(stat -L -c %s "$(command -v pmemctl)" | awk '{ printf "%.1f", $1 / 1e6 }')" MB 30

	say "$many lvm volumes in one group"
	bare_lvcreates bare.first
	client_times many many --type lvm --count "$many" --size 4Mi --no-erase
	bare_lvcreates bare.last
	at_most "CSI create, the last of $many lvm volumes / the first" many.last many.first 1.5
	row "  lvcreate alone, among $many / among none" "$(ms bare.last) ms" "$(ms bare.first) ms" "$(awk -v a="$(median bare.last)" -v b="$(median bare.first)" 'BEGIN { printf "%.2f", a / b }')" - -
	details+=("memory of the CSI server, MiB" "  at its start $at_start, after $many volumes $(resident)")
	stop_server
	lvremove -f pmemvgregion0 >>"$log" 2>&1
	wait_for_udev
fi

if part sizes || part large || part quiet; then
	pmemctl vg extend pmemvgregion0 --percent 100 >>"$log"
	wait_for_udev
fi

if part sizes; then
	mkdir -p /run/pmemctl
	flock /run/pmemctl/eraser.lock sleep infinity & # nothing is erased meanwhile
	eraser=$!
	declare -A place=([lvm]="--vg pmemvgregion0" [direct]="--region region1")
	declare -A small=([ext4]=256Mi [xfs]=320Mi) # XFS has no less than 300 MiB
	for kind in lvm direct; do
		for fs in ext4 xfs; do
			say "volumes of 8 GiB and of ${small[$fs]}, $kind, $fs"
			for _ in 1 2 3 4 5; do
				for s in 8Gi "${small[$fs]}"; do
					# shellcheck disable=SC2086 # a flag and its value
					timed "create.$kind.$fs.$s" pmemctl volume create s --type "$kind" ${place[$kind]} --size "$s" --fs "$fs"
					pmemctl volume delete s --force --no-erase >>"$log" 2>&1
				done
			done
		done
	done
	for _ in 1 2 3 4 5; do
		for s in 8G 256M; do
			timed "bare.direct.$s" create_namespace fsdax "$s"
			ndctl destroy-namespace -f "$namespace" >>"$log" 2>&1
		done
	done
	for fs in ext4 xfs; do
		same "create at 8 GiB / at ${small[$fs]}, lvm, $fs" "create.lvm.$fs.8Gi" "create.lvm.$fs.${small[$fs]}" 1.1
		same "  direct, less what the namespace grows by" "create.direct.$fs.8Gi" "create.direct.$fs.${small[$fs]}" 1.1 bare.direct.8G bare.direct.256M
	done
	say "growing by 8 GiB and by 256 MiB, mounted"
	for _ in 1 2 3 4 5; do
		for s in 8448Mi 512Mi; do
			pmemctl volume create s --type lvm --vg pmemvgregion0 --size 256Mi --mount /mnt/bench >>"$log"
			timed "expand.$s" pmemctl volume expand s --size "$s"
			pmemctl volume delete s --unmount --force --no-erase >>"$log" 2>&1
		done
	done
	same "expand by 8 GiB / by 256 MiB, mounted, lvm" expand.8448Mi expand.512Mi 1.2

	kill "$eraser"
	start_server
	erase=() clients=1
	for kind in lvm direct; do
		say "DeleteVolume of 8 GiB and of 256 MiB, $kind"
		for _ in 1 2 3 4 5; do
			for size in 8Gi 256Mi; do
				key=gone-$kind-$size
				csi_life
				erased
			done
		done
		same "DeleteVolume of 8 GiB / of 256 MiB, $kind" "gone-$kind-8Gi.delete" "gone-$kind-256Mi.delete" 1.1
	done
	stop_server
fi

if part large; then
	start_server
	erase=()
	size=4Gi size_mib=4096
	direct_raw=$(pmemctl volume create bench --type direct --region region1 --size "$size" --dry-run -o json | jq .plan.raw)
	# Before each of both, so that neither has the other's memory.
	csi_large() { erased && csi_life; }
	bare_large() { erased && csi_bare; }
	for clients in 1 4; do
		for kind in lvm direct; do
			key=csi-large-$kind-$clients
			say "lives of $kind volumes of 4 GiB over CSI, $clients at once"
			alternate $((clients == 1 ? 7 : 3)) csi_large bare_large
			if [ "$kind" = lvm ]; then ends="lvcreate lvremove"; else ends="createns destroyns"; fi
			if ((clients == 1)); then
				at_most "life over CSI at 4 GiB, erased later, $kind" "$key.total" "$key.bare" 0.8
			else
				at_most "four lives at once, $kind" "$key.total" "$key.bare" 1
			fi
			breakdown "CSI, 4 GiB, $kind, $clients at once" "$key" "create stage publish unpublish unstage delete" "${ends% *} mkfs rawmount bind unbind umount ${ends#* }"
		done
	done
	stop_server
fi

if part quiet; then
	start_server
	size=4Gi size_mib=4096
	direct_raw=$(pmemctl volume create bench --type direct --region region1 --size "$size" --dry-run -o json | jq .plan.raw)
	say "reading and writing while 8 GiB are erased"
	pmemctl volume create user --type lvm --vg pmemvgregion0 --size 384Mi --mount /mnt/bench >>"$log"
	dd if=/dev/zero of=/mnt/bench/file bs=4M count=$((span_mib / 4)) conv=fsync status=none
	pmemctl volume create full --type lvm --vg pmemvgregion0 --size 8Gi --fs none >>"$log"
	# Bytes that the host keeps, so that it finds no zeros to take back meanwhile.
	{ yes || true; } | dd of=/dev/pmemvgregion0/full bs=1M iflag=fullblock oflag=direct count=8192 status=none
	sleep 6
	user_runs() { # KEY
		local rw
		for rw in randread randwrite; do fio_run "user.$rw.$1" /mnt/bench/file --ioengine=psync --direct=1 --rw="$rw"; done
	}
	for _ in 1 2 3; do user_runs quiet; done
	client delete full >>"$log"
	for _ in 1 2 3; do user_runs erasing; done
	left=$(pmemctl capacity -o json | jq '[.. | .erasing? // empty] | max')
	[ "${left:-0}" -gt 0 ] # it was erased meanwhile
	erased
	for _ in 1 2 3; do user_runs quiet; done
	echo >&2
	for rw in randread randwrite; do
		at_least "fio $rw while 8 GiB are erased / without (1/1.25)" "user.$rw.erasing" "user.$rw.quiet" 0.8
	done
	pmemctl volume delete user --unmount --force --no-erase >>"$log" 2>&1
	stop_server

	cli_large() { erased && "${kind}_pmemctl_large"; }
	lvm_pmemctl_large() { timed large.lvm.pmemctl large_life lvm --vg pmemvgregion0; }
	direct_pmemctl_large() { timed large.direct.pmemctl large_life direct --region region1; }
	large_life() { # TYPE FLAG VALUE
		pmemctl volume create bench --type "$1" "$2" "$3" --size "$size" --fs ext4 --mount /mnt/bench >>"$log" 2>&1
		pmemctl volume delete bench --unmount --force --wait=false >>"$log" 2>&1
	}
	cli_bare() { erased && timed "large.$kind.bare" "${kind}_bare_life" "large.$kind" bare; }
	for kind in lvm direct; do
		say "life of a volume of 4 GiB, $kind"
		alternate 5 cli_large cli_bare
		at_most "create --mount, delete --wait=false, 4 GiB, $kind" "large.$kind.pmemctl" "large.$kind.bare" 1
	done
fi

if part fio; then
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
fi

printf '%-58s %12s %12s %6s %7s\n' what pmemctl bare ratio target
printf '%s\n' "${rows[@]}"
printf '\nWhere the time goes (median, ms), volumes of %s:\n' "$size"
printf '%s\n' "${details[@]}"
printf '\nTimes are medians, operations per second the best, of runs in turns in one emulated guest (%s s in all).\n' "$SECONDS"
printf 'Only the ratios say something; no hardware is that slow.\n'
if part fio; then
	printf 'A mapping of a raw %s is no baseline: it is page cache. A devdax device is raw PMEM\n' "$raw"
	printf 'that can be mapped with MAP_SYNC.\n'
fi
