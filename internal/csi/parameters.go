package csi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Parameters of a StorageClass.
const (
	paramVolumeType       = "volumeType" // PMEM, or LVM with vgName
	paramPMEMType         = "pmemType"   // lvm or direct
	paramPMEMRegion       = "pmemRegion"
	paramVGName           = "vgName"
	paramLVMType          = "lvmType" // linear or striping
	paramFSType           = "fsType"
	paramMkfsOptions      = "mkfsOptions"
	paramNodeAffinity     = "nodeAffinity" // every volume is on one node, whatever it says
	paramEraseAfterDelete = "eraseAfterDelete"
	paramMapSync          = "mapSync" // required, or any

	kubernetesPrefix = "csi.storage.k8s.io/"
	kubernetesFSType = kubernetesPrefix + "fstype"
	ephemeralKey     = kubernetesPrefix + "ephemeral"
)

var parameters = []string{paramVolumeType, paramPMEMType, paramPMEMRegion, paramVGName, paramLVMType, paramFSType, paramMkfsOptions, paramNodeAffinity, paramEraseAfterDelete, paramMapSync}

// spec converts parameters to a volume.Spec.
func (s *Server) spec(params map[string]string) (volume.Spec, error) {
	spec := volume.Spec{Type: s.Type, OrLarger: true}
	volumeType := ""
	for key, value := range params {
		switch key {
		case paramVolumeType:
			volumeType = value
		case paramPMEMType:
			t, err := volume.ParseType(value)
			if err != nil {
				return spec, invalid("parameter %s: %q is neither lvm nor direct", key, value)
			}
			spec.Type = t
		case paramPMEMRegion:
			spec.Region = value
		case paramVGName:
			spec.VG = value
		case paramLVMType:
			if value != "linear" && value != "striping" {
				return spec, invalid("parameter %s: %q is neither linear nor striping", key, value)
			}
			spec.Stripe = value == "striping"
		case paramFSType, kubernetesFSType:
			if value != mount.Ext4 && value != mount.XFS {
				return spec, invalid("parameter %s: %q is neither ext4 nor xfs", key, value)
			}
			if spec.FS != "" && spec.FS != value {
				return spec, invalid("parameters %s and %s differ: %s and %s", paramFSType, kubernetesFSType, spec.FS, value)
			}
			spec.FS = value
		case paramMapSync:
			if value != "required" && value != "any" {
				return spec, invalid("parameter %s: %q is neither required nor any", key, value)
			}
			spec.MapSync = value == "required"
		case paramMkfsOptions:
			spec.MkfsOptions = strings.Fields(value)
		case paramNodeAffinity, paramEraseAfterDelete:
			yes, err := strconv.ParseBool(value)
			if err != nil {
				return spec, invalid("parameter %s: %q is neither true nor false", key, value)
			}
			if key == paramEraseAfterDelete {
				spec.NoErase = !yes
			}
		default:
			if !strings.HasPrefix(key, kubernetesPrefix) {
				return spec, invalid("unknown parameter %q; did you mean %s?", key, nearest(key, parameters))
			}
		}
	}
	switch volumeType {
	case "", "PMEM":
	case "LVM":
		if params[paramPMEMType] == string(volume.TypeDirect) {
			return spec, invalid("parameters %s: LVM and %s: direct exclude each other", paramVolumeType, paramPMEMType)
		}
		spec.Type = volume.TypeLVM
	default:
		return spec, invalid("parameter %s: %q is neither PMEM nor LVM", paramVolumeType, volumeType)
	}
	if s.Only && spec.Type != s.Type {
		return spec, status.Errorf(codes.ResourceExhausted, "parameter %s: this node serves %s volumes only, not %s; choose another StorageClass, or another label for the node", paramPMEMType, s.Type, spec.Type)
	}
	return spec, nil
}

// nearest returns the known word with the smallest edit distance.
func nearest(word string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int {
		return distance(strings.ToLower(word), strings.ToLower(a)) - distance(strings.ToLower(word), strings.ToLower(b))
	})
}

// distance returns the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// singleNode are the access modes of a volume on a single node.
var singleNode = []csi.VolumeCapability_AccessMode_Mode{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
}

// checkCapability returns an error for a capability that volumes here do not have.
func checkCapability(c *csi.VolumeCapability) error {
	if c == nil {
		return invalid("volume_capability is missing")
	}
	if mode := c.GetAccessMode().GetMode(); !slices.Contains(singleNode, mode) {
		return invalid("access mode %s is not supported: a volume is local to one node", mode)
	}
	switch {
	case c.GetBlock() != nil:
	case c.GetMount() == nil:
		return invalid("volume_capability has neither mount nor block")
	case !slices.Contains([]string{"", mount.Ext4, mount.XFS}, c.GetMount().GetFsType()):
		return invalid("fs_type %q is neither ext4 nor xfs", c.GetMount().GetFsType())
	}
	return nil
}

// checkCapabilities also returns the file system for the volume; none for a raw block volume.
func checkCapabilities(caps []*csi.VolumeCapability, fs string) (string, error) {
	if len(caps) == 0 {
		return "", invalid("volume_capabilities are missing")
	}
	block := false
	for _, c := range caps {
		if err := checkCapability(c); err != nil {
			return "", err
		}
		block = block || c.GetBlock() != nil
		if asked := c.GetMount().GetFsType(); asked != "" {
			if fs != "" && fs != asked {
				return "", invalid("fs_type %s differs from the parameter %s: %s", asked, paramFSType, fs)
			}
			fs = asked
		}
	}
	if block {
		return mount.None, nil
	}
	if fs == "" {
		fs = mount.Ext4
	}
	return fs, nil
}
