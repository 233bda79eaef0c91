package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPromises: docs/promises.md names tests and scripts that exist.
func TestPromises(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(root + "/docs/promises.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	scripts := map[string]bool{}
	for _, top := range []string{"internal", "test"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, top), func(path string, _ os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case strings.HasSuffix(path, ".txtar"):
				scripts[strings.TrimSuffix(filepath.Base(path), ".txtar")] = true
			case strings.HasSuffix(path, "_test.go"):
				source, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
					tests[string(found[1])] = true
				}
			}
			return nil
		}))
	}
	named := 0
	for _, found := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1) {
		named++
		assert.True(t, tests[string(found[1])], "there is no %s", found[1])
	}
	assert.Greater(t, named, 50)
	for _, list := range regexp.MustCompile("scripts? `[^|;]*").FindAllString(string(page), -1) {
		for _, found := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(list, -1) {
			assert.True(t, scripts[found[1]], "there is no script %s", found[1])
		}
	}
}
