#!/bin/bash
# Alibaba Cloud's page for PMEM volumes, followed on a real Kubernetes with pmemctl: from
# labels on nodes to data that outlives its pod. Prints each command with its
# real output. For the lab's cluster (make demo-k8s): it deletes what it made.
set -eu
cd "$(dirname "$0")/.."

if [ "$(kubectl config current-context)" != lab ]; then
	echo "demo: this is for the lab's cluster: make demo-k8s" >&2
	exit 1
fi

run() {
	printf '$'
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=,@%+-]*) printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	printf '\n'
	"$@" 2>&1 || fail "exit status $? of: $*"
}

fail() {
	printf 'demo: %s\n' "$1" >&2
	kubectl get pods,pvc -A >&2
	kubectl get events -A --sort-by=.lastTimestamp >&2
	exit 1
}

# until_true SENTENCE COMMAND...: waits for it, quietly.
until_true() {
	local what=$1
	shift
	for _ in $(seq 600); do # erasing takes its time
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 1
	done
	fail "did not become true: $what"
}

section() { printf '\n## %s\n' "$1"; }
has_capacity() { kubectl get csistoragecapacities -n kube-system -o jsonpath='{.items[*].capacity}' | grep -q '[1-9].* .*[1-9]'; }
claim() { # TYPE NODE SIZE: the page's claim and application
	sed "s/TYPE/$1/g; s/NODE/$2/; s/SIZE/$3/" test/kubernetes/testdata/claims.yaml >"$dir/$1.yaml"
	(cd "$dir" && run kubectl apply -f "$1.yaml")
	run kubectl rollout status "statefulset/sts-$1" --timeout=4m
}
driver() { kubectl get pods -n kube-system -l app.kubernetes.io/name=pmemctl --field-selector "spec.nodeName=$1" -o 'jsonpath={.items[0].metadata.name}'; }
grown() { [ "$(kubectl get pvc pmem-lvm -o 'jsonpath={.status.capacity.storage}')" = 11Gi ]; }
no_volumes() { [ -z "$(kubectl get pv -o name)" ]; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

section "Labels and driver"
run kubectl label node node0 pmem.csi.alibabacloud.com= pmem.csi.alibabacloud.com/type=lvm
run kubectl label node node1 pmem.csi.alibabacloud.com= pmem.csi.alibabacloud.com/type=direct
run kubectl apply -k deploy/kubernetes/overlays/ack
run kubectl rollout status -n kube-system daemonset/csi-local-plugin-lvm --timeout=4m
run kubectl rollout status -n kube-system daemonset/csi-local-plugin-direct --timeout=4m
until_true "the scheduler knows what is free" has_capacity
run kubectl get csinodes,csidrivers,storageclasses
run kubectl get csistoragecapacities -n kube-system -o custom-columns=CLASS:.storageClassName,NODE:.nodeTopology.matchLabels,CAPACITY:.capacity

section "An lvm volume"
claim lvm node0 10Gi
run kubectl get pvc
run kubectl get pod
run kubectl exec sts-lvm-0 -- df /data

section "A direct volume"
claim direct node1 9Gi
run kubectl get pvc pmem-direct
run kubectl get pod
run kubectl exec sts-direct-0 -- df /data

section "What is on the nodes"
for node in node0 node1; do
	run kubectl exec -n kube-system "$(driver "$node")" -c csi-localplugin -- pmemctl tree
done

section "DAX and persistence"
for kind in lvm direct; do
	run kubectl exec "sts-$kind-0" -- sh -c 'mount | grep " /data "; echo kept >/data/file; sync'
	run kubectl delete pod "sts-$kind-0" --grace-period=1
	run kubectl rollout status "statefulset/sts-$kind" --timeout=4m
	run kubectl exec "sts-$kind-0" -- cat /data/file
done

section "Online expansion"
run kubectl patch pvc pmem-lvm -p '{"spec":{"resources":{"requests":{"storage":"11Gi"}}}}'
until_true "the claim has 11Gi" grown
run kubectl get pvc pmem-lvm
run kubectl exec sts-lvm-0 -- df /data

section "Clean up"
run kubectl delete statefulset sts-lvm sts-direct
run kubectl delete pvc pmem-lvm pmem-direct
until_true "no PersistentVolume is left" no_volumes
for node in node0 node1; do
	run kubectl exec -n kube-system "$(driver "$node")" -c csi-localplugin -- pmemctl volume list
done
run kubectl delete -k deploy/kubernetes/overlays/ack
