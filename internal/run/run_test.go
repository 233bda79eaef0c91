package run

import (
	"context"
	"errors"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// The container image has the required programs only.
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
		if program == "fio" || program == "cxl" { // for bench and region restore, which run on the host
			continue
		}
		require.True(t, has[program], program)
	}
}

func TestCommand(t *testing.T) {
	out, err := Command(context.Background(), "sh", "-c", "echo $LC_ALL; echo aside >&2")
	require.NoError(t, err)
	assert.Equal(t, "C\n", string(out))

	out, err = Change(context.Background(), "sh", "-c", "echo begun; printf 'one\\n\\n two\\nthree\\nusage\\n' >&2; exit 3")
	assert.Equal(t, "begun\n", string(out))
	var failed *Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, 3, failed.Code)
	assert.EqualError(t, err, "sh: one; two; three")

	_, err = Command(context.Background(), "sh", "-c", "exit 1")
	assert.EqualError(t, err, "sh -c exit 1: exit status 1")
}

func TestNotInstalled(t *testing.T) {
	require.NoError(t, Installed("sh"))
	_, err := Command(context.Background(), "no-such-program")
	assert.True(t, errs.Is(err, errs.Unsupported), "%v", err)
	t.Setenv("PATH", "/nowhere")
	require.NoError(t, Installed("sh"), "found where PATH does not look")
}

// TestDeadline: a program that does not finish is killed with its children.
func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := Command(ctx, "sh", "-c", "sleep 60 & wait")
	assert.True(t, errs.Is(err, errs.Deadline), "%v", err)
	assert.ErrorContains(t, err, "timed out and was killed")
	assert.Less(t, time.Since(begun), 30*time.Second)

	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = Command(ctx, "sleep", "60")
	assert.True(t, errors.Is(err, context.Canceled), "%v", err)
}

func TestDetached(t *testing.T) {
	file := t.TempDir() + "/made"
	require.NoError(t, Detached("/bin/sh", "sh", "-c", "echo $0 > "+file))
	assert.Eventually(t, func() bool { data, err := os.ReadFile(file); return err == nil && string(data) == "sh\n" }, 10*time.Second, 10*time.Millisecond)
	assert.Error(t, Detached("/no/such/program"))
}
