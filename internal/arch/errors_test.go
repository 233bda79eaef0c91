package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reason is the reason of an error in the code: its literal parts, in order.
type reason struct {
	parts []string
	where token.Position
}

// longest returns the part that best identifies the reason.
func (r reason) longest() string {
	return slices.MaxFunc(append(r.parts, ""), func(a, b string) int { return len(a) - len(b) })
}

// inSource calls call for each call of a function of errs in the sources, and text for each
// string.
func inSource(t *testing.T, call func(name string, args []ast.Expr, at token.Position), text func(string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && path == "../model" { // which is no part of the program
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					text(s)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok {
					if pkg, ok := f.X.(*ast.Ident); ok && pkg.Name == "errs" {
						call(f.Sel.Name, n.Args, files.Position(n.Pos()))
					}
				}
			}
			return true
		})
		return nil
	}))
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-z]`)

// literals returns the strings in an expression, without the verbs of formats.
func literals(e ast.Expr) (parts []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			for _, p := range verb.Split(s, -1) {
				parts = append(parts, strings.TrimSpace(p))
			}
		}
		return true
	})
	return parts
}

// reasonArgument is the index of the reason in the arguments of a function of errs.
var reasonArgument = map[string]int{"New": 2, "Wrap": 2}

// TestErrorsAreDocumented: docs/errors.md has all reasons of the code, and no others.
func TestErrorsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	doc := plain(string(data))

	var code strings.Builder
	var reasons []reason
	inSource(t, func(name string, args []ast.Expr, at token.Position) {
		if i, ok := reasonArgument[name]; ok && i < len(args) {
			reasons = append(reasons, reason{literals(args[i]), at})
		}
	}, func(s string) {
		for _, p := range verb.Split(s, -1) {
			code.WriteString(plain(p) + "\n")
		}
	})
	require.Greater(t, len(reasons), 200)
	for _, r := range reasons {
		const tooShort = 12 // what several reasons have
		if text := plain(r.longest()); len(text) >= tooShort {
			assert.True(t, strings.Contains(doc, text), "docs/errors.md does not have %q (%s)", text, r.where)
		}
	}

	said := code.String()
	for _, heading := range regexp.MustCompile(`(?m)^\*\*(.*?)\*\*`).FindAllStringSubmatch(string(data), -1) {
		for _, quoted := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(heading[1], -1) {
			parts := regexp.MustCompile(`[A-Z][A-Z-]+|"[A-Z]+"|\b[A-Z]\b|…|[0-9]+|: `).Split(quoted[1], -1)
			text := plain(slices.MaxFunc(parts, func(a, b string) int { return len(a) - len(b) }))
			assert.True(t, strings.Contains(said, text), "docs/errors.md has %q, which the code does not say (%q)", quoted[1], text)
		}
	}
}

// plain normalizes a text for comparison, without the punctuation around names.
func plain(s string) string {
	return strings.Trim(strings.Join(strings.Fields(s), " "), " :;,.\"'`()")
}
