package csi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// healthTimeout limits a health check, which never waits for other work.
const healthTimeout = 10 * time.Second

// healthz returns the same as Probe: whether volumes can be created on this host. Restarting the
// server would not help.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.ready(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	if first, failed := s.preparing(); first {
		fmt.Fprintln(w, "pending: the PMEM is being prepared")
	} else if failed != nil {
		fmt.Fprintf(w, "pending: the PMEM could not be prepared and will be retried: %v\n", failed)
	}
}

// ready checks the host, and times out if the kernel does not respond.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- s.Volumes.CheckHost(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the host did not answer: %w", ctx.Err())
	}
}

// livez fails only if the process does: it calls the server over its own sockets, without the
// host, LVM or a lock.
func (s *Server) livez(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	var err error
	s.serving.Range(func(socket, _ any) bool {
		err = answers(ctx, socket.(string))
		return err == nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Ask returns the name and the version of the driver that serves a socket. The error says that it
// does not answer, or why it cannot create volumes.
func Ask(ctx context.Context, socket string) (name, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	client := csi.NewIdentityClient(conn)
	info, err := client.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
	if err != nil {
		return "", "", fmt.Errorf("does not answer: %s", status.Convert(err).Message())
	}
	answer, err := client.Probe(ctx, &csi.ProbeRequest{})
	switch {
	case err != nil:
		err = fmt.Errorf("is not ready: %s", status.Convert(err).Message())
	case answer.GetReady() != nil && !answer.GetReady().GetValue():
		err = errors.New("is not ready: the PMEM is being prepared")
	}
	return info.GetName(), info.GetVendorVersion(), err
}

func answers(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}); err != nil {
		return fmt.Errorf("socket %s: %w", socket, err)
	}
	return nil
}
