package cli

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestNamespaceFlags(t *testing.T) {
	testFlags(t, newNamespaceListCommand, []flagTest[namespaceListOptions]{
		{args: "", want: namespaceListOptions{output: outputTable}},
		{args: "-r region0 -o wide", want: namespaceListOptions{region: "region0", output: outputWide}},
		{args: "namespace0.0", err: `unknown command "namespace0.0"`},
	})
	testFlags(t, newNamespaceCreateCommand, []flagTest[namespaceCreateOptions]{
		{args: "", want: namespaceCreateOptions{request: volume.NamespaceRequest{Mode: pmem.ModeFSDAX, Map: pmem.MapDev, SectorSize: 4096}, output: outputTable}},
		{args: "-r region0 -m devdax -s 16Gi -M mem -a 1Gi -n mine -u 5b1f1c2e-6a53-4e0c-9c5a-2f9d1d1f8a11 --force -o json", want: namespaceCreateOptions{request: volume.NamespaceRequest{
			Region: "region0", Mode: pmem.ModeDevDAX, Size: 16 * pmem.GiB, Map: pmem.MapMem, Align: pmem.GiB, SectorSize: 4096,
			Name: "mine", UUID: "5b1f1c2e-6a53-4e0c-9c5a-2f9d1d1f8a11", Force: true}, output: outputJSON}},
		{args: "--mode sector --raw-size 1Gi -l 512", want: namespaceCreateOptions{request: volume.NamespaceRequest{
			Mode: pmem.ModeSector, Map: pmem.MapDev, RawSize: pmem.GiB, SectorSize: 512}, output: outputTable}},
		{args: "--size 0", err: "create: wrong usage: the size must be greater than 0"},
		{args: "--raw-size 0", err: "create: wrong usage: the size must be greater than 0"},
		{args: "--sector-size -1", err: `invalid argument "-1" for "-l, --sector-size" flag`},
	})
	testFlags(t, newNamespaceDestroyCommand, []flagTest[namespaceDestroyOptions]{
		{args: "namespace0.0 namespace1.0", want: namespaceDestroyOptions{keys: []string{"namespace0.0", "namespace1.0"}}},
		{args: "namespace0.0 --force", want: namespaceDestroyOptions{keys: []string{"namespace0.0"}, force: true}},
		{args: "--force", err: "requires at least 1 arg(s)"},
	})
}

// fakeNamespaces is a service with namespaces by name, that records which are destroyed.
type fakeNamespaces struct {
	service
	all       map[string]pmem.Namespace
	destroyed []string
}

func (f *fakeNamespaces) GetNamespace(key string) (pmem.Namespace, error) {
	if n, ok := f.all[key]; ok {
		return n, nil
	}
	return pmem.Namespace{}, errs.New(errs.NotFound, key, "does not exist", "")
}

func (f *fakeNamespaces) CreateNamespace(_ context.Context, q volume.NamespaceRequest) (pmem.Namespace, error) {
	return pmem.Namespace{Dev: "namespace0.0", Region: q.Region, Mode: q.Mode, Size: q.Size, RawSize: 2 * q.Size, State: "enabled", Name: q.Name}, nil
}

func (f *fakeNamespaces) DestroyNamespace(_ context.Context, key string) error {
	f.destroyed = append(f.destroyed, key)
	return nil
}

func TestNamespaceDestroy(t *testing.T) {
	for name, c := range map[string]struct {
		args      string
		answers   []string
		code      int
		destroyed []string
		stderr    string
	}{
		"yes":         {args: "namespace0.0", answers: []string{"yes"}, destroyed: []string{"u"}, stderr: "namespace0.0 (fsdax, 1 GiB) and its data will be lost. Type yes to continue: namespace0.0 destroyed\n"},
		"no":          {args: "namespace0.0", answers: []string{"no"}, code: exitAborted, stderr: "namespace0.0 (fsdax, 1 GiB) and its data will be lost. Type yes to continue: pmemctl: nothing was changed\n"},
		"no terminal": {args: "namespace0.0", code: exitAborted, stderr: "pmemctl: namespace0.0 (fsdax, 1 GiB) and its data will be lost. Cannot prompt: standard input or standard error is not a terminal\n  next: confirm with --force\n"},
		"force":       {args: "namespace0.0 namespace1.0 --force", destroyed: []string{"u", "namespace1.0"}},
		"missing":     {args: "namespace9.9 namespace0.0 --force", code: exitNotFound, stderr: "pmemctl: namespace9.9: does not exist\n"},
	} {
		f := &fakeNamespaces{all: map[string]pmem.Namespace{
			"namespace0.0": {Dev: "namespace0.0", Mode: pmem.ModeFSDAX, RawSize: pmem.GiB, UUID: "u"},
			"namespace1.0": {Dev: "namespace1.0", Mode: pmem.ModeRaw, RawSize: pmem.GiB}, // without labels
		}}
		sh := newShell(f, c.answers...)
		assert.Equal(t, c.code, sh.run("namespace destroy "+c.args), name)
		assert.Equal(t, c.destroyed, f.destroyed, name)
		assert.Equal(t, c.stderr, sh.stderr.String(), name)
	}
}

func TestNamespaceCreate(t *testing.T) {
	sh := newShell(&fakeNamespaces{})
	sh.ok(t, "namespace create -r region0 -m devdax -s 1Gi")
	assert.Equal(t, `NAMESPACE      REGION    MODE     SIZE    RAW     DEVICE   STATE     OWNER
namespace0.0   region0   devdax   1 GiB   2 GiB   -        enabled   foreign
`, sh.stdout.String())
}
