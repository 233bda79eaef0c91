package csi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/pmemctl/pmemctl/internal/volume"
)

// ephemeralPrefix is the prefix of the names of inline volumes, which have the lifecycle of their
// pod.
const ephemeralPrefix = "ephemeral-"

// hashLength is the number of hexadecimal digits of a hash in a name, 128 bits.
const hashLength = 32

// volumeName returns the volume's name for a name that the CO chose: the same if LVM and
// namespaces allow it, otherwise a hash of it. The volume's name is its ID.
func volumeName(name string) string {
	if volume.ValidateName(name) == nil && !strings.HasPrefix(name, ephemeralPrefix) && !strings.HasPrefix(name, hashedPrefix) {
		return name
	}
	return hashedPrefix + hash(name)
}

// hashedPrefix is the prefix of names that are hashes, so that no chosen name can be taken for
// one.
const hashedPrefix = "csi-name-"

// ephemeralName returns the name of an inline volume for the ID that kubelet generated.
func ephemeralName(id string) string { return ephemeralPrefix + hash(id) }

// inlineName matches the results of ephemeralName: a user's volume ephemeral-something is not an
// inline volume.
var inlineName = regexp.MustCompile(fmt.Sprintf("^%s[0-9a-f]{%d}$", ephemeralPrefix, hashLength))

// IsInline reports whether a name is that of an inline volume, which the server removes at startup
// if kubelet has no pod for it.
func IsInline(name string) bool { return inlineName.MatchString(name) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashLength]
}
