#!/bin/sh
# Builds pmemctl from a commit of this repository, for the upgrade tests:
# previous.sh COMMIT FILE
set -eu
commit=$1
file=$2

if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
	echo "previous: commit $commit, which the tests of an upgrade build, is not in this clone" >&2
	echo "  next: git fetch --unshallow, or clone the repository with its history" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive "$commit" | tar -x -C "$work"
(cd "$work" && ${GO:-go} build -trimpath -buildvcs=false -o pmemctl ./cmd/pmemctl)
mkdir -p "$(dirname "$file")"
mv "$work/pmemctl" "$file"
