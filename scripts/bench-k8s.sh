#!/bin/bash
# From a claim to a running pod: the time that pmemctl's volumes add, compared with the same
# pods with hostPath volumes, which are directories. One and 20 at a time, alternating; prints
# the median of each, and their ratio. For the lab's cluster (make bench-k8s).
#	BENCH_ROUNDS=3 BENCH_MANY=20 BENCH_SIZE=16Mi
set -eu
cd "$(dirname "$0")/.."

if [ "$(kubectl config current-context)" != lab ]; then
	echo "bench: this is for the lab's cluster: make bench-k8s" >&2
	exit 1
fi
rounds=${BENCH_ROUNDS:-3} many=${BENCH_MANY:-20} size=${BENCH_SIZE:-16Mi}
counts="1 $many"
[ "$many" -gt 1 ] || counts=1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# pods KIND COUNT: pods with a volume each, as YAML.
pods() {
	for i in $(seq "$2"); do
		local volume="hostPath: {path: /run/bench-$i, type: DirectoryOrCreate}"
		if [ "$1" != hostPath ]; then
			volume="persistentVolumeClaim: {claimName: bench-$i}"
			cat <<END
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: bench-$i, labels: {app: bench}}
spec: {accessModes: [ReadWriteOnce], storageClassName: pmem-$1, resources: {requests: {storage: $size}}}
---
END
		fi
		cat <<END
apiVersion: v1
kind: Pod
metadata: {name: bench-$i, labels: {app: bench}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: busybox, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "10000"], volumeMounts: [{name: volume, mountPath: /data}]}]
  volumes: [{name: volume, $volume}]
---
END
	done
}

# life KIND COUNT: appends to a file the milliseconds until all pods were ready.
life() {
	local began took
	pods "$1" "$2" >"$dir/pods.yaml"
	began=$(date +%s%3N)
	kubectl create -f "$dir/pods.yaml" >/dev/null
	kubectl wait --for=condition=Ready pod -l app=bench --timeout=10m >/dev/null
	took=$(($(date +%s%3N) - began))
	echo "$took" >>"$dir/$1.$2"
	echo "bench: $2 with $1: $took ms" >&2
	kubectl delete pods,pvc -l app=bench --wait >/dev/null
	while [ -n "$(kubectl get pv -o name)" ]; do sleep 1; done
}

median() { sort -n "$dir/$1.$2" | sed -n "$(((rounds + 1) / 2))p"; }

kubectl label node --all --overwrite pmem.csi.alibabacloud.com= >/dev/null
kubectl apply -k deploy/kubernetes/overlays/ack >/dev/null
kubectl rollout status -n kube-system daemonset/csi-local-plugin --timeout=5m >/dev/null
until [ "$(kubectl get csistoragecapacities -n kube-system -o name | wc -l)" -ge 2 ]; do sleep 1; done
echo "bench: once before, not counted, for the image to be pulled" >&2
life hostPath 1
rm "$dir/hostPath.1"
for _ in $(seq "$rounds"); do
	for count in $counts; do
		for kind in hostPath lvm direct; do life "$kind" "$count"; done
	done
done
printf '%-10s%6s%14s%14s%8s%22s\n' VOLUMES PODS PMEMCTL HOSTPATH RATIO "ADDED PER POD"
for kind in lvm direct; do
	for count in $counts; do
		with=$(median "$kind" "$count") without=$(median hostPath "$count")
		printf '%-10s%6d%11d ms%11d ms%8s%19d ms\n' "$kind" "$count" "$with" "$without" \
			"$(awk -v a="$with" -v b="$without" 'BEGIN { printf "%.2f", a / b }')" "$(((with - without) / count))"
	done
done
for node in $(kubectl get nodes -o jsonpath='{.items[*].metadata.name}'); do
	kubectl get --raw "/api/v1/nodes/$node/proxy/stats/summary" |
		jq -r '.pods[] | select(.podRef.name | startswith("csi-local-plugin")) | .containers[] | "memory of \(.name): \((.memory.workingSetBytes // 0) / 1048576 * 10 | round / 10) MiB (working set)"'
done
stat -c %s build/pmemctl-image.tar | awk '{ printf "size of the image: %.1f MiB\n", $1 / 1048576 }'
