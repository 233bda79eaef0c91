package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// Server is where a CSI server on this host may be.
type Server struct {
	KubeletDir, Driver string
	// Ask returns the name and the version of the driver that serves a socket, and an error if it
	// does not answer or is not ready.
	Ask func(ctx context.Context, socket string) (name, version string, err error)
	// Propagates reports whether mounts made below a directory appear in the pods' mount
	// namespaces.
	Propagates func(dir string) (bool, error)
}

func (s Server) socket() string {
	return filepath.Join(s.KubeletDir, "plugins", s.Driver, "csi.sock")
}

func (c Checker) checkServer(ctx context.Context, r *report) {
	s := c.Server
	if s == nil {
		return
	}
	if _, err := os.Stat(s.KubeletDir); errors.Is(err, os.ErrNotExist) {
		r.ok("csi", "", "no kubelet on this host: "+s.KubeletDir+" does not exist")
		return
	}
	if _, err := os.Stat(s.socket()); errors.Is(err, os.ErrNotExist) {
		r.add("csi", s.Driver, Note, "does not run on this host: "+s.socket()+" does not exist", "")
		return
	}
	name, version, err := s.Ask(ctx, s.socket())
	switch {
	case err != nil:
		next := errs.NextStep(err)
		if next == "" {
			next = "see its log: kubectl logs -n pmemctl -l app.kubernetes.io/name=pmemctl -c pmemctl"
		}
		r.add("csi", s.Driver, Fault, s.socket()+": "+err.Error(), next)
	case name != s.Driver:
		r.add("csi", s.Driver, Fault, s.socket()+" is served by another driver: "+name, "remove one of the two, or give it another name: --driver")
	default:
		r.ok("csi", s.Driver, "version "+version+" is ready")
	}
	registry := filepath.Join(s.KubeletDir, "plugins_registry")
	sockets, err := os.ReadDir(registry)
	registered := false
	for _, f := range sockets {
		registered = registered || strings.HasPrefix(f.Name(), s.Driver)
	}
	switch {
	case err != nil:
		r.add("csi", "registration", Fault, registry+" cannot be read: "+err.Error(), "check kubelet's root directory: --kubelet-dir")
	case !registered:
		r.add("csi", "registration", Fault, "kubelet does not know the driver: there is no socket of it in "+registry, "see the log of its registrar, or use serve-csi --registration-dir")
	default:
		r.ok("csi", "registration", "a socket is in "+registry)
	}
	pods := filepath.Join(s.KubeletDir, "pods") // mounted by itself in the driver's container
	if _, err := os.Stat(pods); err != nil {
		pods = s.KubeletDir
	}
	switch shared, err := s.Propagates(pods); {
	case err != nil:
		r.add("csi", "mounts", Warning, "the mount table cannot be read: "+err.Error(), "findmnt -o TARGET,PROPAGATION -T "+pods)
	case !shared:
		r.add("csi", "mounts", Fault, "the mount of "+pods+" is private: what the driver mounts does not appear in pods", "mount --make-rshared /")
	default:
		r.ok("csi", "mounts", pods+" is shared")
	}
}
