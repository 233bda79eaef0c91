package csi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/pmemctl/pmemctl/internal/volume"
)

// ephemeralPrefix begins the names of inline volumes, which live as long as their
// pod.
const ephemeralPrefix = "ephemeral-"

// hashLength is the characters of a hash in a name, 128 bits.
const hashLength = 32

// volumeName is the volume for a name that the CO chose: the same one where LVM
// and namespaces allow it, otherwise a hash of it. The volume's name is its ID.
func volumeName(name string) string {
	if volume.ValidateName(name) == nil && !strings.HasPrefix(name, ephemeralPrefix) && !strings.HasPrefix(name, hashedPrefix) {
		return name
	}
	return hashedPrefix + hash(name)
}

// hashedPrefix begins the names that are hashes, so that no name chosen by
// somebody can be taken for one.
const hashedPrefix = "csi-name-"

// ephemeralName is the volume of an inline volume's ID, which kubelet makes.
func ephemeralName(id string) string { return ephemeralPrefix + hash(id) }

// inlineName is what ephemeralName makes: what a person called ephemeral-something
// is no inline volume.
var inlineName = regexp.MustCompile(fmt.Sprintf("^%s[0-9a-f]{%d}$", ephemeralPrefix, hashLength))

// IsInline reports whether a name is one of those of inline volumes, which the server
// removes when it starts and kubelet has no pod with them any more.
func IsInline(name string) bool { return inlineName.MatchString(name) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashLength]
}
