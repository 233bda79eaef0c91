#!/bin/bash
# Builds the image as an OCI archive, without a registry and without a Docker engine:
#
#	scripts/image.sh PMEMCTL VERSION ARCHIVE
#
# From Debian's packages it takes only the programs that pmemctl starts, and the
# libraries that they need: no shell, no package manager. The archive has two tags,
# VERSION, and VERSION-ack for Alibaba Cloud's manifests as printed: its environment contains
# the flags that these lack.
set -Eeuo pipefail

program=$1 version=$2 archive=$(realpath -m "$3")
suite=bookworm
packages=lvm2,e2fsprogs,xfsprogs,util-linux,libndctl6,libdaxctl1,base-files
programs=(sbin/lvm sbin/mke2fs sbin/mkfs.ext4 sbin/resize2fs sbin/e2fsck sbin/tune2fs sbin/mkfs.xfs usr/sbin/xfs_growfs usr/sbin/xfs_db sbin/blkid)
loaded=(libndctl.so.6 libdaxctl.so.1) # loaded by pmemctl when needed

here=$(dirname "$(realpath "$0")")/..
work=$(dirname "$archive")/image
mkdir -p "$work"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}

# shellcheck disable=SC2016 # for another shell
# keep_controls saves the control data and file list of each package, before mmdebstrap deletes them.
keep_controls='
	set -e
	mkdir "$1/controls" "$1/contents"
	for deb in "$1"/var/cache/apt/archives/*.deb; do
		name=$(dpkg-deb --field "$deb" Package)
		dpkg-deb --field "$deb" >"$1/controls/$name"
		dpkg-deb --fsys-tarfile "$deb" >"$1/files.tar"
		tar --list --file "$1/files.tar" >"$1/files"
		sed -n "s,^\./\(usr/\)\?\(.*[^/]\)$,\2,p" "$1/files" >"$1/contents/$name"
		rm "$1/files.tar" "$1/files"
	done'
debian=$work/debian
if [ ! -e "$debian.done" ] || [ "$(cat "$debian.done")" != "$suite $packages $keep_controls" ]; then
	rm -rf "$debian"
	echo "image: unpacking $packages" >&2
	mmdebstrap --quiet --aptopt="Acquire::Retries \"5\"" --variant=extract --include="$packages" --extract-hook="$keep_controls" "$suite" "$debian"
	echo "$suite $packages $keep_controls" >"$debian.done"
fi

root=$work/root
rm -rf "$root"
mkdir -p "$root"/usr/{sbin,bin,lib} "$root"/{etc,tmp,run,var,proc,sys,dev}
chmod 1777 "$root/tmp"
for d in bin sbin lib; do ln -s "usr/$d" "$root/$d"; done
mkdir -p "$root/usr/lib64"
ln -s usr/lib64 "$root/lib64"

lib=lib/x86_64-linux-gnu
loader=lib64/ld-linux-x86-64.so.2
where=$debian/$lib:$debian/usr/$lib
# in_image PATH: the same path below /usr, where /bin, /sbin and /lib point to.
in_image() { case $1 in usr/*) echo "$root/$1" ;; *) echo "$root/usr/$1" ;; esac; }
# libraries FILE: copies the libraries that it needs.
libraries() {
	local needed
	needed=$("$debian/$loader" --library-path "$where" --list "$1")
	while read -r path; do
		install -D -m 755 "$path" "$(in_image "${path#"$debian/"}")"
	done < <(awk -v d="$debian/" 'index($3, d) == 1 { print $3 }' <<<"$needed")
}
for p in "${programs[@]}"; do
	install -D -m 755 "$debian/$p" "$(in_image "$p")"
	libraries "$debian/$p"
done
for l in "${loaded[@]}"; do
	file=$(find "$debian/usr/$lib" "$debian/$lib" -name "$l" | head -n 1)
	libraries "$file"
	real=$(realpath "$file") # its name contains the version
	install -D -m 755 "$real" "$root/usr/$lib/${real##*/}"
	ln -sf "${real##*/}" "$root/usr/$lib/$l"
done
install -m 755 "$debian/$loader" "$root/usr/lib64/"
install -m 755 "$program" "$root/usr/sbin/pmemctl"
libraries "$program"
install -m 644 "$here/deploy/image/mke2fs.conf" "$root/etc/mke2fs.conf"
install -d "$root/usr/share/doc/pmemctl"
install -m 644 "$here/LICENSE" "$root/usr/share/doc/pmemctl/"
# Vulnerability scanners find the packages here, as in other images that contain only some of
# Debian's files.
install -m 644 "$debian/etc/debian_version" "$root/etc/debian_version"
install -m 644 "$debian/usr/lib/os-release" "$root/usr/lib/os-release"
ln -s ../usr/lib/os-release "$root/etc/os-release"
status=$root/var/lib/dpkg/status.d
install -d "$status"
taken=$(cd "$root" && find . ! -type d ! -path './usr/share/doc/*' | sed 's,^\./\(usr/\)\?,,' | sort)
for contents in "$debian"/contents/*; do
	p=${contents##*/}
	if grep -qxFf "$contents" <<<"$taken"; then
		install -m 644 "$debian/controls/$p" "$status/"
		install -D -m 644 "$debian/usr/share/doc/$p/copyright" "$root/usr/share/doc/$p/copyright"
	fi
done
of_none=$(grep -vxFf <(cat "$debian"/contents/*) <<<"$taken" | tr '\n' ' ')
if [ "$of_none" != "bin lib lib64 sbin sbin/pmemctl " ]; then
	echo "image: files of no package of Debian's: $of_none" >&2
	rm "$debian.done"
	exit 1
fi
cp -a "$debian/usr/share/common-licenses" "$root/usr/share/" # the copyright files refer to these

strip "$root/usr/sbin/pmemctl"
find "$root" -name '*.so*' -type f -exec strip --strip-unneeded {} +

layer=$work/layer.tar
tar --create --file "$layer" --directory "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" .
layout=$work/oci
rm -rf "$layout"
umoci init --layout "$layout"
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
tag() { # TAG UMOCI-CONFIG-ARGUMENT...
	local name=$1
	shift
	umoci new --image "$layout:$name"
	umoci raw add-layer --image "$layout:$name" --history.created="$created" "$layer"
	umoci config --image "$layout:$name" --created="$created" --history.created="$created" --architecture amd64 --os linux \
		--config.env PATH=/usr/sbin:/usr/bin "$@" \
		--config.entrypoint /usr/sbin/pmemctl --config.entrypoint serve-csi \
		--config.label "org.opencontainers.image.title=pmemctl" --config.label "org.opencontainers.image.version=$version"
}
tag "$version"
tag "$version-ack" --config.env PMEMCTL_INIT=true --config.env PMEMCTL_PERCENT=50 --config.env PMEMCTL_NODE_EXPANSION=true \
	--config.env PMEMCTL_CONTROLLER_ENDPOINT=/var/lib/kubelet/csi-plugins/localplugin.csi.alibabacloud.com/controller/csi.sock
umoci gc --layout "$layout"
# With these digests, manifests can refer to exactly this image in a registry.
grep -o '"digest":"[^"]*"[^}]*"org.opencontainers.image.ref.name":"[^"]*"' "$layout/index.json" | sed 's/^"digest":"\([^"]*\)".*:"\(.*\)"$/image: \2 is \1/' >&2
rm -f "$archive"
tar --create --file "$archive" --directory "$layout" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" .
rm -rf "$layer"
echo "image: $archive, $(du -h --apparent-size "$archive" | cut -f1); tags $version and $version-ack" >&2
