package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommittedFilesAreFresh(t *testing.T) {
	const repo = "../../.."
	man, completions := t.TempDir(), t.TempDir()
	require.NoError(t, Generate(man, completions))
	for fresh, committed := range map[string]string{man: "man", completions: "completions"} {
		want := readAll(t, fresh)
		require.NotEmpty(t, want)
		assert.Equal(t, want, readAll(t, filepath.Join(repo, committed)), "%s is not what the command tree gives: make generate", committed)
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
