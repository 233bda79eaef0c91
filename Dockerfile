# The image for people with an engine; make image makes a smaller one without. From the
# root of the sources: docker build -t pmemctl --build-arg VERSION=$(git describe) .
# With --target ack: for Alibaba Cloud's manifests as printed.
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libndctl-dev libdaxctl-dev pkg-config
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN go build -trimpath -ldflags "-s -w -X github.com/pmemctl/pmemctl/internal/cli.Version=$VERSION" -o /pmemctl ./cmd/pmemctl

FROM debian:bookworm-slim AS image
RUN apt-get update \
	&& apt-get install -y --no-install-recommends libndctl6 libdaxctl1 lvm2 e2fsprogs xfsprogs util-linux \
	&& rm -rf /var/lib/apt/lists/*
# What mkfs.ext4 makes can be mounted by older kernels too.
COPY deploy/image/mke2fs.conf /etc/mke2fs.conf
COPY --from=build /pmemctl /usr/sbin/pmemctl
ENTRYPOINT ["/usr/sbin/pmemctl", "serve-csi"]

FROM image AS ack
ENV PMEMCTL_INIT=true PMEMCTL_PERCENT=50 PMEMCTL_NODE_EXPANSION=true \
	PMEMCTL_CONTROLLER_ENDPOINT=/var/lib/kubelet/csi-plugins/localplugin.csi.alibabacloud.com/controller/csi.sock

FROM image
