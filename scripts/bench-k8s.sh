#!/bin/bash
# From a claim to a running pod: the time that pmemctl's volumes add, compared with the same
# pods with hostPath volumes, which are directories. One and 20 at a time, alternating; prints
# the median of each, and their ratio. Then the servers of deploy/examples, on volumes and on
# hostPath. For the lab's cluster (make bench-k8s), where hostPath is memory too.
#	BENCH_ROUNDS=3 BENCH_MANY=20 BENCH_SIZE=16Mi BENCH_PARTS='pods servers'
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

part() { [[ " ${BENCH_PARTS:-pods servers} " = *" $1 "* ]]; }

# server NAME KIND: an example, small, with another volume.
server() {
	local volume="hostPath: {path: /run/bench-$1, type: DirectoryOrCreate}"
	[ "$2" = hostPath ] || volume="persistentVolumeClaim: {claimName: $1}"
	# The directory of a hostPath volume is root's.
	sed -e "s/persistentVolumeClaim: {claimName: $1}/$volume/; s/pmem-direct/pmem-$2/; s/storage: 60Gi/storage: 512Mi/" \
		-e 's/memory: .*Gi}/memory: 64Mi}/; s/maxmemory 20gb/maxmemory 200mb/; s/memory-limit=57344/memory-limit=256/' \
		-e 's/memcached --memory-file/memcached --user=root --memory-file/' \
		-e 's/runAs\(User\|Group\): .*/runAs\1: 0/; s/runAsNonRoot: true/runAsNonRoot: false/' "deploy/examples/$1.yaml"
}

# redis KIND and memcached KIND append what they measure to files: the median of a SET in
# milliseconds, SETs per second of 16 clients; microseconds of a set and of a get.
redis() {
	local run="kubectl exec deployment/redis -- redis-benchmark --csv -t set -d 1024 -r 10000"
	$run -n 3000 -c 1 | awk -F'","' 'NR == 2 { print $5 }' >>"$dir/$1.set"
	$run -n 10000 -c 16 | awk -F'[",]+' 'NR == 2 { print $3 }' >>"$dir/$1.sets"
}
memcached() {
	local n=20000
	for what in set get; do
		kubectl exec deployment/memcached -- sh -c "
			i=0
			while [ \$i -lt $n ]; do
				[ $what = get ] || printf 'set k%d 0 0 1024 noreply\r\n%01024d\r\n' \$i \$i
				[ $what = set ] || printf 'get k%d\r\n' \$i
				i=\$((i + 1))
			done >/dev/shm/commands
			printf 'quit\r\n' >>/dev/shm/commands
			read -r from x </proc/uptime
			nc 127.0.0.1 11211 </dev/shm/commands >/dev/null
			read -r to x </proc/uptime
			echo \$from \$to" | awk -v n=$n '{ printf "%.0f\n", ($2 - $1) * 1e6 / n }' >>"$dir/$1.mc$what"
	done
}

servers() {
	for _ in $(seq "$rounds"); do
		for kind in hostPath direct lvm; do
			for name in redis memcached; do
				server $name $kind >"$dir/server.yaml"
				kubectl apply -f "$dir/server.yaml" >/dev/null
				kubectl rollout status deployment/$name --timeout=10m >/dev/null
				$name $kind
				kubectl delete -f "$dir/server.yaml" --wait >/dev/null
			done
			echo "bench: servers with $kind: redis $(tail -qn 1 "$dir/$kind".set*), memcached $(tail -qn 1 "$dir/$kind".mc*)" >&2
			while [ -n "$(kubectl get pv -o name)" ]; do sleep 1; done
		done
	done
	printf '%-34s%12s%12s%12s%10s%10s\n' SERVER HOSTPATH DIRECT LVM DIRECT/H LVM/H
	while read -r file name; do
		awk -v name="$name" -v h="$(median hostPath "$file")" -v d="$(median direct "$file")" -v l="$(median lvm "$file")" \
			'BEGIN { printf "%-34s%12s%12s%12s%10.2f%10.2f\n", name, h, d, l, d / h, l / h }'
	done <<END
set redis SET, median, ms
sets redis SETs/s, 16 clients
mcset memcached set, us
mcget memcached get, us
END
}

kubectl label node --all --overwrite pmem.csi.alibabacloud.com= >/dev/null
kubectl apply -k deploy/kubernetes/overlays/ack >/dev/null
kubectl rollout status -n kube-system daemonset/csi-local-plugin --timeout=5m >/dev/null
until [ "$(kubectl get csistoragecapacities -n kube-system -o name | wc -l)" -ge 2 ]; do sleep 1; done
if part pods; then
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
fi
if part servers; then servers; fi
for node in $(kubectl get nodes -o jsonpath='{.items[*].metadata.name}'); do
	kubectl get --raw "/api/v1/nodes/$node/proxy/stats/summary" |
		jq -r '.pods[] | select(.podRef.name | startswith("csi-local-plugin")) | .containers[] | "memory of \(.name): \((.memory.workingSetBytes // 0) / 1048576 * 10 | round / 10) MiB (working set)"'
done
stat -c %s build/pmemctl-image.tar | awk '{ printf "size of the image: %.1f MiB\n", $1 / 1048576 }'
