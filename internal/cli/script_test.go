package cli

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// session is the host and the user of one script.
type session struct {
	host    *model.Host
	user    bool   // not root
	answers string // what is typed; "" is no terminal
}

// TestScripts runs command lines on a model of a host with two regions of 4 GiB:
//
//	pmemctl ARGS…         a command that succeeds
//	fails CODE ARGS…      one that ends with an exit code
//	types TEXT            what is typed at the next prompts
//	as-user               from here on not as root
//	host DO NAMESPACE     unbind, bind or lose-info-block, or a reboot
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			dir := filepath.Join(env.WorkDir, "host")
			env.Values["session"] = &session{host: model.New(dir, 4*pmem.GiB, 4*pmem.GiB)}
			return os.Mkdir(dir, 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"pmemctl": func(ts *testscript.TestScript, neg bool, args []string) {
				if code := runLine(ts, args); code != exitOK {
					ts.Fatalf("exit code %d", code)
				}
			},
			"fails": func(ts *testscript.TestScript, neg bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				if code := runLine(ts, args[1:]); code != want {
					ts.Fatalf("exit code %d, and not %d", code, want)
				}
			},
			"types": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Value("session").(*session).answers = strings.Join(args, " ") + "\n"
			},
			"as-user": func(ts *testscript.TestScript, neg bool, args []string) { ts.Value("session").(*session).user = true },
			"host": func(ts *testscript.TestScript, neg bool, args []string) {
				h := ts.Value("session").(*session).host
				switch args[0] {
				case "reboot":
					ts.Check(h.Reboot())
				case "unbind":
					ts.Check(h.Unbind(args[1]))
				case "bind":
					ts.Check(h.Bind(args[1]))
				case "lose-info-block":
					ts.Check(h.LoseInfoBlock(args[1]))
				case "remove-labels":
					h.RemoveLabels(0)
				case "virtio":
					h.MakeVirtio()
				default:
					ts.Fatalf("host cannot %s", args[0])
				}
			},
		},
	})
}

// runLine runs a command line in this process.
func runLine(ts *testscript.TestScript, args []string) int {
	on := ts.Value("session").(*session)
	service := on.host.Service()
	a := &app{
		stdin: strings.NewReader(on.answers), stdout: ts.Stdout(), stderr: ts.Stderr(), interactive: on.answers != "",
		root: func() bool { return !on.user }, detach: func(...string) {}, ndctl: service.NDCTL, service: service, host: service, dax: &fakeDAX{}, cxl: &fakeCXL{},
	}
	service.Progress = a.progress
	service.Note = func(err error) { a.note("pmemctl: note: %v", err) }
	on.answers = ""
	root := newRootCommand(a)
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		printError(a, err)
		return exitCode(err)
	}
	return exitOK
}
