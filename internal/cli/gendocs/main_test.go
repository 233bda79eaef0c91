package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommittedFilesAreFresh(t *testing.T) {
	const repo = "../../.."
	man, completions := t.TempDir(), t.TempDir()
	require.NoError(t, Generate(man, completions))
	for fresh, committed := range map[string]string{man: "man", completions: "completions"} {
		want, got := readAll(t, fresh), readAll(t, filepath.Join(repo, committed))
		require.NotEmpty(t, want)
		names := slices.Sorted(maps.Keys(want))
		assert.Equal(t, names, slices.Sorted(maps.Keys(got)), "%s: make generate", committed)
		for _, name := range names {
			assert.True(t, want[name] == got[name], "%s/%s is not what the command tree gives: make generate", committed, name)
		}
	}
}

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		files[e.Name()] = string(data)
	}
	return files
}
