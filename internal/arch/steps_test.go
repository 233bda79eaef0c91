package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outside are the calls that change something outside the process for a volume. A crash before or
// after each must do no harm, which tests check at the points of internal/fault.
var outside = regexp.MustCompile(`^(mount\.Mount|unix\.(Unmount|MoveMount|Mount)|BLKZEROOUT|run\.Change|WriteAt` +
	`|C\.ndctl_(namespace|pfn|dax|btt)_(set|enable|disable|delete|zero)\w*|C\.ndctl_dimm_(init|zero)\w*|cmd\.Run|os\.Mkdir)$`)

// marked are the functions that have fault points, or pass their step to one that has.
var marked = regexp.MustCompile(`^(fault\.Step|change|run\.Change|c\.change|claim)$`)

// covered by the points of the callers, or not a step of an operation on a volume.
var covered = map[string]string{
	"mount.mountAt":       "Mount and Bind",
	"mount.bindAtOnce":    "Bind",
	"mount.bindInSteps":   "Bind",
	"run.output":          "Change",
	"ndctl.rollBack":      "undoes what failed, and is repeated by the next operation",
	"ndctl.disableRegion": "a person's command on a region",

	"volume.Mount":             "internal/mount",
	"volume.publishFilesystem": "makeLast",
}

// TestEveryStepHasAFaultPoint keeps the crash tests, which take their list of steps from the
// points, complete.
func TestEveryStepHasAFaultPoint(t *testing.T) {
	found := 0
	for _, pkg := range []string{"run", "ndctl", "lvm", "mount", "blockdev", "volume"} {
		files, err := filepath.Glob("../" + pkg + "/*.go")
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, decl := range tree.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				steps, points := named(f.Body, outside), named(f.Body, marked)
				if len(steps) == 0 {
					continue
				}
				found++
				if _, ok := covered[pkg+"."+f.Name.Name]; !ok {
					assert.NotEmpty(t, points, "%s: %s calls %v, and has no fault.Step around it", file, f.Name.Name, steps)
				}
			}
		}
	}
	assert.Greater(t, found, 10, "the search finds the steps")
}

// named returns the names in a function that match.
func named(body ast.Node, pattern *regexp.Regexp) (names []string) {
	ast.Inspect(body, func(n ast.Node) bool {
		var name string
		switch n := n.(type) {
		case *ast.SelectorExpr:
			name = n.Sel.Name
			if x, ok := n.X.(*ast.Ident); ok && !pattern.MatchString(name) {
				name = x.Name + "." + name
			}
		case *ast.Ident:
			name = n.Name
		}
		if name != "" && pattern.MatchString(name) {
			names = append(names, name)
		}
		return true
	})
	return names
}
