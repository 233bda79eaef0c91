// Package arch tests the rules of docs/architecture.md about imports.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/pmemctl/pmemctl/internal/"

// mayImport are the allowed imports between packages, the arrows of the diagram. pmem, errs and
// fault are below all of them.
var mayImport = map[string][]string{
	"arch": {}, "pmem": {}, "errs": {}, "fault": {}, "hostlock": {}, "devuser": {}, "run": {},
	"cxl":               {"run"},
	"ndctl":             {"cxl"},
	"dax":               {"devuser"},
	"blockdev":          {},
	"lvm":               {"run", "blockdev"},
	"mount":             {"run", "blockdev"},
	"hostconf":          {"run"},
	"volume":            {"ndctl", "lvm", "mount", "blockdev", "devuser", "hostlock", "run"},
	"volume/volumetest": {"volume", "mount"},
	"model":             {"ndctl", "lvm", "mount", "blockdev", "hostlock", "volume"},
	"metrics":           {"volume", "doctor"},
	"bench":             {"volume", "mount"},
	"persistentvolume":  {"volume"},
	"report":            {"doctor", "volume", "hostlock", "mount", "lvm", "ndctl"},
	"doctor":            {"volume", "cxl", "hostconf", "hostlock", "mount", "lvm"},
	"csi":               {"volume", "mount"},
	"cli":               {"csi", "metrics", "doctor", "report", "bench", "persistentvolume", "volume", "cxl", "hostconf", "ndctl", "dax", "lvm", "mount", "blockdev", "run"},
	"cli/gendocs":       {"cli"},
}

var below = []string{"pmem", "errs", "fault"}

// only lists which packages may import a package from outside of pmemctl.
var only = map[string][]string{
	"C":                         {"ndctl", "dax"},
	"os/exec":                   {"run"},
	"google.golang.org/grpc":    {"csi"},
	"github.com/spf13/cobra":    {"cli", "cli/gendocs"},
	"k8s.io/kubelet":            {"csi"},
	"github.com/prometheus":     {"csi", "metrics"},
	"github.com/moby/sys/mount": {"mount"},
}

// pure are the files of the volume service that only decide: the meaning of a mark, the content of
// a view, the place of a volume. pureImports is what they may import; of lvm and mount they use
// only values.
var (
	pure        = []string{"mark.go", "spec.go", "view.go", "layout.go", "directlayout.go", "lvmlayout.go", "plan.go", "capacity.go", "erasing.go", "vgplan.go", "decommissionplan.go", "adoptplan.go", "damage.go"}
	pureImports = []string{"cmp", "errors", "fmt", "iter", "maps", "regexp", "slices", "strings", "time", "github.com/google/uuid", module + "pmem", module + "errs", module + "lvm", module + "mount"}
)

func TestPure(t *testing.T) {
	for _, name := range pure {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../volume", name), nil, 0)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			assert.Contains(t, pureImports, path, name)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			star, pointer := f.Recv.List[0].Type.(*ast.StarExpr)
			if !pointer {
				continue
			}
			receiver, _ := star.X.(*ast.Ident)
			assert.NotEqual(t, "Service", receiver.Name, "%s: %s", name, f.Name.Name)
		}
	}
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		seen[pkg] = true
		allowed, known := mayImport[pkg]
		assert.True(t, known, "package %s is not in the diagram: docs/architecture.md", pkg)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, is := strings.CutPrefix(name, module); is {
				assert.True(t, slices.Contains(below, ours) || slices.Contains(allowed, ours), "%s imports %s", path, ours)
			}
			for outside, who := range only {
				if name == outside || strings.HasPrefix(name, outside+"/") && outside != "C" {
					assert.Contains(t, who, pkg, "%s imports %s", path, name)
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	assert.True(t, seen["volume"] && seen["csi"], "the packages were found")
}
