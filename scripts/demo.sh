#!/bin/bash
# The main job of pmemctl on a real kernel: from raw NVDIMMs to volumes that are
# mounted with DAX, grown, and deleted; also over CSI. Prints each command with
# its real output. Runs in the lab guest only (make demo): it destroys what is on the PMEM.
set -eu

# The root file system is checked too: a machine with PMEM may have that name.
if [ "$(hostname)" != pmemlab ] || ! grep -q '^overlay / overlay .*lowerdir=/host,upperdir=/rw/upper' /proc/mounts; then
	echo "demo: this destroys all data on the PMEM of the machine, and runs in the lab guest only: make demo" >&2
	exit 1
fi

# shows SENTENCE: prints what the previous command showed.
shows() { printf '# %s\n\n' "$1"; }

# run COMMAND...: prints it, then its output; the demo ends if it fails.
run() {
	printf '$ %s\n' "$*"
	"$@" 2>&1 || fail "exit status $? of: $*"
}

# serves COMMAND...: prints it and starts it in the background, as process $server,
# which ends with the demo at the latest.
serves() {
	printf '$ %s &\n' "$*"
	"$@" &
	server=$!
	trap 'kill "$server" 2>/dev/null || true' EXIT
}

# refused STATUS COMMAND...: a command that must be refused with that exit status.
refused() {
	local want=$1 status=0
	shift
	printf '$ %s\n' "$*"
	"$@" 2>&1 || status=$?
	[ "$status" -eq "$want" ] || fail "exit status $status, where $want is the right one, of: $*"
	printf '(exit status %s)\n' "$status"
}

# holds SENTENCE COMMAND...: checks what must be true now; the command is not shown.
holds() {
	local what=$1
	shift
	"$@" >/dev/null || fail "not true: $what"
}

fail() {
	printf 'demo: %s\n' "$1" >&2
	exit 1
}

# The same as docs/exit-codes.md.
in_use=6 unsupported=7
db=/dev/mapper/pmemvgregion0-db

device_of() { findmnt -n -o SOURCE "$1"; }
kib() { df --output=size "$1" | tail -n 1; }
# all_free: every byte of every region is free.
all_free() { pmemctl region list -o json | jq -e 'all(.regions[]; .size == .available_size)'; }
lives() { kill -0 "$1"; }

echo "== The PMEM as it comes"
echo
run pmemctl region list
shows "One region for each DIMM. They have no labels yet, so each is one namespace as a whole."
run pmemctl region init-labels --all --force
shows "Labels let a region be divided. This destroys what is in it; without --force it asks."
run pmemctl region list
holds "all regions are free" all_free
shows "Now all of it is free."

echo "== Volume groups"
echo
run pmemctl vg init --percent 50
shows "Half of each region becomes a volume group for lvm volumes; the rest is for direct volumes."
run pmemctl vg init --percent 50
shows "Once more: nothing changes."

echo "== Two volumes"
echo
run pmemctl volume create db --type lvm --size 512Mi --dry-run
shows "What would be made, and what it takes, before anything is."
run pmemctl volume create db --type lvm --size 512Mi
shows "A logical volume with ext4 on it."
run pmemctl volume create cache --type direct --size 512Mi
shows "A namespace of its own, with exactly the requested size."
run pmemctl volume mount db /mnt/db
shows "Mounted with DAX, or it would have failed: pmemctl looks whether DAX took effect."
run pmemctl volume mount cache /mnt/cache
shows "The direct volume too."
run df /mnt/db /mnt/cache
holds "db is on the logical volume" [ "$(device_of /mnt/db)" = "$db" ]
holds "cache is on a namespace" expr "$(device_of /mnt/cache)" : '/dev/pmem[0-9.]*$'
shows "The lvm volume is a mapped device, the direct one is the PMEM device itself."
run grep dax=always /proc/mounts
holds "both have DAX" [ "$(grep -c dax=always /proc/mounts)" -eq 2 ]
shows "The kernel says the same: dax=always on both."

echo "== Growing, with a program that has a file open"
echo
before=$(kib /mnt/db)
run dd if=/dev/urandom of=/mnt/db/data bs=1M count=8 status=none
shows "8 MiB of data on the volume, in a file that a program keeps open from here on."
run sha256sum /mnt/db/data
shows "Its sum, before."
sum=$(sha256sum </mnt/db/data)
tail -f /mnt/db/data >/dev/null &
reader=$!
trap 'kill "$reader" 2>/dev/null || true' EXIT
run pmemctl volume expand db --size 1Gi
shows "The volume is grown while it is mounted."
run df /mnt/db
holds "the file system has grown" [ "$(kib /mnt/db)" -gt "$((before + 400000))" ]
shows "Its file system has grown with it."
holds "the program that had the file open still runs" lives "$reader"
run sha256sum /mnt/db/data
holds "the data is the same" [ "$(sha256sum </mnt/db/data)" = "$sum" ]
shows "The data is the same, and the program that had it open still runs."
kill "$reader"
wait "$reader" 2>/dev/null || true
trap - EXIT

echo "== What is refused, and what to do then"
echo
refused "$unsupported" pmemctl volume expand cache --size 1Gi
shows "A direct volume cannot grow; the message names the way out."
refused "$in_use" pmemctl volume delete db --force
holds "db is still mounted" mountpoint -q /mnt/db
shows "A volume that is mounted is never deleted, not even with --force."

echo "== All of it on one page"
echo
run pmemctl tree
shows "From the DIMM to the mount, with the bytes that each layer keeps for itself."
run pmemctl capacity
shows "What can still be made, per type and place."

echo "== Is it healthy, how fast is it, and what to send to a maintainer"
echo
run pmemctl host setup --force
shows "Keeps udevd and the host's LVM from reading what tenants write to volumes."
run pmemctl doctor --touch
shows "Everything between the kernel and the mounts. A fault maps 2 MiB, and stores need no fsync."
run pmemctl bench --time 1s --size 128Mi
holds "bench removed its volumes" [ "$(pmemctl volume list -o json | jq '.volumes | length')" -eq 2 ]
shows "Measured on volumes of its own, which are gone again."
run pmemctl report --file /tmp/report.tar.gz
shows "One archive, with what it contains."
run pmemctl volume list --from /tmp/report.tar.gz
shows "The host as the archive has it, on any machine."

echo "== The same over CSI"
echo
serves pmemctl serve-csi --endpoint unix:///run/demo/csi.sock --nodeid lab --kubelet-dir /mnt --v 0
shows "The server of this node, which in a cluster Kubernetes calls. Here csiclient makes the same calls."
run export CSI_ENDPOINT=unix:///run/demo/csi.sock
shows "Where it finds the server."
run csiclient list
shows "The server has no volumes of its own: it sees those that the command line made."
run csiclient create web --type lvm --size 256Mi
holds "the command line sees web" pmemctl volume show web
shows "CreateVolume, with the parameters of a StorageClass for lvm volumes."
run csiclient stage web /mnt/staging
holds "web is on a logical volume" expr "$(device_of /mnt/staging)" : '/dev/mapper/pmemvgregion[01]-web$'
shows "NodeStageVolume: mounted once on the node, with DAX."
run csiclient publish web /mnt/staging /mnt/pod
holds "web has DAX in both places" [ "$(grep -c '^/dev/mapper/pmemvgregion[01]-web .*dax=always' /proc/mounts)" -eq 2 ]
shows "NodePublishVolume: given to a pod."
run df /mnt/pod
before=$(kib /mnt/pod)
shows "What the pod has."
run csiclient expand web 512Mi /mnt/pod
shows "ControllerExpandVolume, then NodeExpandVolume, while the pod has it mounted."
run df /mnt/pod
holds "the file system has grown" [ "$(kib /mnt/pod)" -gt "$((before + 200000))" ]
shows "What the pod has now."
run csiclient unpublish web /mnt/pod
holds "the pod has it no more" [ ! -e /mnt/pod ]
shows "NodeUnpublishVolume: taken from the pod."
run csiclient unstage web /mnt/staging
holds "web is mounted nowhere" [ "$(grep -c -- -web /proc/mounts)" -eq 0 ]
shows "NodeUnstageVolume: unmounted."
run csiclient delete web
shows "DeleteVolume: web is deleted at once. The server erases it with zeros in the background."
run csiclient list
holds "web is gone" [ "$(csiclient list | grep -c '^web:')" -eq 0 ]
shows "The others are still there."
run kill "$server"
holds "the server ended in good order" wait "$server"
trap - EXIT
shows "SIGTERM ends the server. What is mounted would stay mounted."

echo "== Giving it back"
echo
run pmemctl volume unmount db
shows "Unmounted; the volume and its data stay."
run pmemctl volume unmount cache
shows "The other one too."
run pmemctl volume delete db cache --force
shows "Erased with zeros, then removed."
run pmemctl gc
shows "Whatever is not erased yet is erased now, at full speed: web, if the server has not finished."
run pmemctl decommission --dry-run
shows "What would be removed: nothing that has a volume."
run pmemctl decommission --force
shows "The volume groups are gone, and their namespaces with them."
run pmemctl tree
holds "all regions are free" all_free
shows "All is free again."
echo "demo: done, every step did what it should (${SECONDS} s in the guest)"
