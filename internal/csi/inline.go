package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// attributeSize is the size of an inline volume. A pod may set only this and fsType: a user who
// may create a pod is not one who may create a StorageClass.
const attributeSize = "size"

// inlineSpec returns the spec of the volume that a pod requests.
func (s *Server) inlineSpec(req *csi.NodePublishVolumeRequest) (volume.Spec, error) {
	spec := volume.Spec{Name: ephemeralName(req.GetVolumeId()), Type: s.Type, OrLarger: true}
	if !s.Inline {
		return spec, status.Errorf(codes.FailedPrecondition, "inline volumes are disabled on this node; next: use a claim or a generic ephemeral volume (ephemeral.volumeClaimTemplate), or start the server with --inline")
	}
	for key, value := range req.GetVolumeContext() {
		switch {
		case key == attributeSize:
			size, err := pmem.ParseSize(value)
			if err != nil || size == 0 {
				return spec, invalid("attribute %s: invalid size %q; next: use a size such as 1Gi", key, value)
			}
			spec.Size = size
		case key == paramFSType:
			if value != mount.Ext4 && value != mount.XFS {
				return spec, invalid("attribute %s: %q is neither ext4 nor xfs", key, value)
			}
			spec.FS = value
		case key == kubernetesFSType || !strings.HasPrefix(key, kubernetesPrefix):
			return spec, invalid("attribute %q is not supported for inline volumes, which take %s and %s", key, attributeSize, paramFSType)
		}
	}
	switch {
	case spec.Size == 0:
		return spec, invalid("attribute %s is missing: an inline volume requires a size such as 1Gi", attributeSize)
	case spec.Size > s.InlineMaxSize:
		return spec, status.Errorf(codes.OutOfRange, "attribute %s: %s exceeds the maximum of %s for inline volumes; next: use a claim, or start the server with a larger --inline-max-size", attributeSize, pmem.FormatSize(spec.Size), pmem.FormatSize(s.InlineMaxSize))
	}
	var err error
	spec.FS, err = checkCapabilities([]*csi.VolumeCapability{req.GetVolumeCapability()}, spec.FS)
	return spec, err
}

// publishInline creates an inline volume and mounts it for its pod. One that already exists, from
// before a reboot, is mounted even if it would not be allowed now.
func (s *Server) publishInline(ctx context.Context, req *csi.NodePublishVolumeRequest, options []string) (*csi.NodePublishVolumeResponse, error) {
	if req.GetVolumeCapability().GetBlock() != nil {
		return nil, invalid("an inline volume must be a file system, not a block device")
	}
	spec, refused := s.inlineSpec(req)
	if refused != nil {
		if _, err := s.Volumes.Get(ctx, spec.Name); errs.Is(err, errs.NotFound) {
			return nil, refused
		} else if err != nil {
			return nil, err
		}
		spec.FS = req.GetVolumeCapability().GetMount().GetFsType()
	} else if _, _, err := s.Volumes.Create(ctx, spec); err != nil {
		return nil, err
	}
	_, err := s.Volumes.Stage(ctx, volume.MountSpec{Name: spec.Name, Path: req.GetTargetPath(), FS: spec.FS, Options: options, ReadOnly: isReadOnly(req)})
	return &csi.NodePublishVolumeResponse{}, err
}

// isInline reports whether an ID is that of an inline volume. The IDs that kubelet generates are
// longer than any volume name.
func (s *Server) isInline(ctx context.Context, id string) (bool, error) {
	if volume.ValidateName(id) != nil {
		return true, nil
	}
	if s.Volumes.IsUp(id) { // avoids LVM, which may be stuck
		return false, nil
	}
	_, err := s.Volumes.Get(ctx, ephemeralName(id))
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// removeAbandonedInline deletes the inline volumes of deleted pods that a crash left. A volume for
// which kubelet still has a directory is kept even if it is not mounted, as after a reboot: its
// pod continues.
func (s *Server) removeAbandonedInline(ctx context.Context, volumes []volume.Volume) {
	for _, vol := range volumes {
		if ctx.Err() != nil {
			return
		}
		if !volume.IsInline(vol.Name) || !s.work.begin(vol.Name) {
			continue
		}
		wanted, err := PodVolumes(s.KubeletDir)
		if err == nil && !wanted[vol.Name] {
			err = s.Volumes.DeleteAsCreated(ctx, vol.Name)
		}
		s.work.end(vol.Name)
		if err != nil && !errs.Is(err, errs.InUse) && !errs.Is(err, errs.NotFound) {
			s.Log.Warn("kept an inline volume that may belong to no pod", "volume", vol.Name, "error", err.Error(), "next", errs.NextStep(err))
		}
	}
}

// PodVolumes returns the names that the CSI volumes of all pods on this node would have as inline
// volumes. Kubelet writes vol_data.json before it requests a volume, and removes it after
// unpublishing the volume (Kubernetes, pkg/volume/csi/csi_mounter.go). It returns an error if a
// volume may have been missed.
func PodVolumes(kubeletDir string) (map[string]bool, error) {
	dir := filepath.Join(kubeletDir, "pods")
	unknown := func(reason string, cause error) error {
		next := "check that it is kubelet's directory, in the server's container too (--kubelet-dir); if no pod needs the volume: pmemctl volume delete"
		if cause == nil {
			return errs.New(errs.Internal, dir, reason, next)
		}
		return errs.Wrap(errs.Internal, dir, reason, next, cause)
	}
	pods, err := os.ReadDir(dir)
	if err != nil {
		return nil, unknown("cannot be read, so the pods on this node are unknown", err)
	}
	if len(pods) == 0 { // the server itself runs in a pod
		return nil, unknown("contains no pods and may not be kubelet's directory", nil)
	}
	wanted := map[string]bool{}
	for _, pod := range pods {
		plugin := filepath.Join(dir, pod.Name(), "volumes", "kubernetes.io~csi")
		volumes, err := os.ReadDir(plugin)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, unknown("cannot be read completely", err)
		}
		for _, v := range volumes {
			handle, err := volumeHandle(filepath.Join(plugin, v.Name()))
			if err != nil {
				return nil, unknown("cannot be read completely", err)
			}
			if handle != "" {
				wanted[ephemeralName(handle)] = true
			}
		}
	}
	return wanted, nil
}

// volumeHandle returns the ID of the volume in a pod's volume directory; "" if there is none.
func volumeHandle(dir string) (string, error) {
	file := filepath.Join(dir, "vol_data.json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(dir, "mount")); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
	}
	if err != nil {
		return "", err
	}
	var v struct {
		VolumeHandle string `json:"volumeHandle"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if v.VolumeHandle == "" {
		return "", fmt.Errorf("%s: has no volumeHandle", file)
	}
	return v.VolumeHandle, nil
}
