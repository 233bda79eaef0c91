package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/hostconf"
)

func TestHostFlags(t *testing.T) {
	testFlags(t, newHostCheckCommand, []flagTest[hostCheckOptions]{
		{args: "", want: hostCheckOptions{output: outputTable}},
		{args: "--root /host -o json", want: hostCheckOptions{host: hostconf.Host{Root: "/host"}, output: outputJSON}},
		{args: "/host", err: `unknown command "/host"`},
	})
	testFlags(t, newHostSetupCommand, []flagTest[hostSetupOptions]{
		{args: "", want: hostSetupOptions{output: outputTable}},
		{args: "--root /host --force", want: hostSetupOptions{host: hostconf.Host{Root: "/host"}, force: true, output: outputTable}},
		{args: "--remove -o yaml", want: hostSetupOptions{remove: true, output: outputYAML}},
	})
}

// newHost returns a host in a directory, without devices of pmemctl.
func newHost(t *testing.T) hostconf.Host {
	dir := t.TempDir()
	for _, d := range []string{"etc", "sys/class/block"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/fstab"), nil, 0o644))
	return hostconf.Host{Root: dir, Kernel: dir, LVM: func(context.Context, string) ([]string, error) { return nil, nil }}
}

func TestHostSetup(t *testing.T) {
	ctx := context.Background()
	h := newHost(t)
	rule := filepath.Join(h.Root, "etc/udev/rules.d/12-pmemctl.rules")

	sh := newShell(nil)
	assert.EqualError(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, output: outputTable}), "Files for udev and LVM will be written to "+h.Root+"/etc. Cannot prompt: standard input or standard error is not a terminal")
	sh = newShell(nil, "no")
	assert.EqualError(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, output: outputTable}), "nothing was changed")
	assert.NoFileExists(t, rule)
	sh = newShell(nil, "yes")
	require.NoError(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, output: outputTable}))
	assert.FileExists(t, rule)
	assert.Regexp(t, `^FILE +DONE +NEXT\n`, sh.stdout.String())
	assert.Contains(t, sh.stdout.String(), rule)

	sh = newShell(nil, "no")
	assert.Error(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, remove: true}))
	assert.Equal(t, "Without the udev rule and the LVM filter, data written by a tenant can change this host. Type yes to continue: ", sh.stderr.String())
	assert.FileExists(t, rule)
	sh = newShell(nil)
	require.NoError(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, remove: true, force: true, output: outputJSON}))
	assert.NoFileExists(t, rule)
	assert.Contains(t, sh.stdout.String(), `"changes": [`)
}

func TestHostCheck(t *testing.T) {
	ctx := context.Background()
	h := newHost(t)
	sh := newShell(nil)
	err := sh.checkHost(ctx, &hostCheckOptions{host: h, output: outputTable})
	assert.ErrorContains(t, err, "host: data written by a tenant can change it: udev rule")
	assert.Equal(t, exitInternal, exitCode(err))
	assert.Regexp(t, `(?m)^udev rule +problem +.* +pmemctl host setup$`, sh.stdout.String())

	require.NoError(t, sh.setUpHost(ctx, &hostSetupOptions{host: h, force: true, output: outputTable}))
	sh = newShell(nil)
	require.NoError(t, sh.checkHost(ctx, &hostCheckOptions{host: h, output: outputTable}))
	assert.Regexp(t, `(?m)^udev rule +ok +.* +-$`, sh.stdout.String())
}

// TestHostSetupFstab: answering yes does not permit removing a link that /etc/fstab uses; --force
// does.
func TestHostSetupFstab(t *testing.T) {
	ctx := context.Background()
	h := newHost(t)
	at := func(name string) string { return filepath.Join(h.Root, name) }
	const namespace = "sys/devices/region0/namespace0.0"
	for _, dir := range []string{namespace + "/block/pmem0", "dev/disk/by-uuid"} {
		require.NoError(t, os.MkdirAll(at(dir), 0o755))
	}
	for name, text := range map[string]string{"etc/fstab": "UUID=bbbb /mnt ext4\n", namespace + "/alt_name": "pmemctl:db\n", namespace + "/block/pmem0/dev": "259:1\n"} {
		require.NoError(t, os.WriteFile(at(name), []byte(text), 0o644))
	}
	for link, target := range map[string]string{namespace + "/block/pmem0/device": namespace, "sys/class/block/pmem0": namespace + "/block/pmem0", "dev/disk/by-uuid/bbbb": "dev/pmem0"} {
		require.NoError(t, os.Symlink(at(target), at(link)))
	}
	err := newShell(nil, "yes").setUpHost(ctx, &hostSetupOptions{host: h, output: outputTable})
	assert.ErrorContains(t, err, "UUID=bbbb is a pmemctl volume")
	assert.Equal(t, exitInUse, exitCode(err))
	assert.NoError(t, newShell(nil).setUpHost(ctx, &hostSetupOptions{host: h, force: true, output: outputTable}))
}
