package run

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The image has the programs that are run, and no other way to them.
func TestImageHasPrograms(t *testing.T) {
	script, err := os.ReadFile("../../scripts/image.sh")
	require.NoError(t, err)
	list := regexp.MustCompile(`(?m)^programs=\((.*)\)$`).FindSubmatch(script)
	require.NotNil(t, list)
	has := map[string]bool{}
	for _, p := range strings.Fields(string(list[1])) {
		has[path.Base(p)] = true
	}
	for program := range packages {
		require.True(t, has[program], program)
	}
}
