package csi

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/pmemctl/pmemctl/internal/volume"
)

// hashLength is the number of hexadecimal digits of a hash in a name, 128 bits. volume.IsInline
// depends on it.
const hashLength = 32

// volumeName returns the volume's name for a name that the CO chose: the same if LVM and
// namespaces allow it, otherwise a hash of it. The volume's name is its ID.
func volumeName(name string) string {
	if volume.ValidateName(name) == nil && !strings.HasPrefix(name, volume.InlinePrefix) && !strings.HasPrefix(name, hashedPrefix) {
		return name
	}
	return hashedPrefix + hash(name)
}

// hashedPrefix is the prefix of names that are hashes, so that no chosen name can be taken for
// one.
const hashedPrefix = "csi-name-"

// ephemeralName returns the name of an inline volume for the ID that kubelet generated.
func ephemeralName(id string) string { return volume.InlinePrefix + hash(id) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashLength]
}
