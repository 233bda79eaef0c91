#!/bin/bash
# Makes a guest of the lab a node of the cluster: network, containerd, kubelet.
# Its disk is memory. The environment says what it is called and where the rest is.
set -Eeuo pipefail
trap 'echo "node: broken at line $LINENO: $BASH_COMMAND" >&2' ERR

if [ "$FRESH" = true ]; then # a machine comes with labels
	ndctl disable-region all >/dev/null
	ndctl init-labels -f all >/dev/null
	ndctl enable-region all >/dev/null
fi

ip link set eth0 up
ip addr add "$ADDRESS/24" dev eth0
ip route add default via "$GATEWAY"
# Pods find the API server at the address of its service.
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables -t nat -A PREROUTING -d "$API_SERVICE" -p tcp --dport 443 -j DNAT --to-destination "$GATEWAY:$API_PORT"
iptables -t nat -A OUTPUT -d "$API_SERVICE" -p tcp --dport 443 -j DNAT --to-destination "$GATEWAY:$API_PORT"
iptables -t nat -A POSTROUTING -s "$POD_NETWORK" -o eth0 -j MASQUERADE

# As under systemd: processes outside of all groups would leave the pods no processor.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/system
echo 40 >/sys/fs/cgroup/system/cpu.weight # kubelet's for the pods of one processor
echo 0 >/sys/fs/cgroup/system/cgroup.procs
for d in /var/lib/containerd /var/lib/kubelet /var/log/pods /var/lib/cni /etc/cni /etc/containerd /opt/cni; do
	mkdir -p "$d"
	mount -t tmpfs tmpfs "$d"
	mount --make-shared "$d"
done
mkdir -p /etc/cni/net.d /opt/cni
cat >/etc/cni/net.d/10-bridge.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_NETWORK"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
cat >/etc/containerd/config.toml <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = true
  # crun: a pod in a guest takes two thirds of the time that it takes with runc.
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    BinaryName = "/usr/bin/crun"
END
mkdir -p /etc/containerd/certs.d/_default
cat >/etc/containerd/certs.d/_default/hosts.toml <<END
[host."$REGISTRY"]
  capabilities = ["pull", "resolve"]
END
# A third of their processor time in a guest: signals and collections are dear there.
export GOGC=400 GODEBUG=asyncpreemptoff=1
setsid containerd >/var/log/containerd.log 2>&1 </dev/null &
for _ in $(seq 100); do
	ctr version >/dev/null 2>&1 && break
	sleep 0.2
done
mkdir -p /etc/kubernetes
cat >/etc/kubernetes/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: $KUBELET_PORT
readOnlyPort: 0
healthzPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $CA}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failSwapOn: false
clusterDNS: [10.96.0.10] # nobody answers there; without it each pod has a warning
resolvConf: ""
registerNode: true
enableServer: true
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi}
nodeStatusUpdateFrequency: 5s
volumeStatsAggPeriod: 30s
END
cat >/usr/local/bin/start-kubelet <<END
#!/bin/sh
echo 0 >/sys/fs/cgroup/system/cgroup.procs
setsid "$PROGRAMS/kubelet" --config=/etc/kubernetes/kubelet.yaml --kubeconfig="$KUBECONFIG_FILE" --hostname-override="$NODE" --node-ip="$ADDRESS" --housekeeping-interval=1m --v=2 \
	>>/var/log/kubelet.log 2>&1 </dev/null &
END
chmod +x /usr/local/bin/start-kubelet
start-kubelet
