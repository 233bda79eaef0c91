package csi

import (
	"context"
	"log/slog"
	"path"
	"runtime/debug"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// LevelRequests is the log level for requests and responses, without their secrets.
const LevelRequests = slog.LevelDebug - 4

// observe logs and counts a call, and converts its error or panic to a status.
func (s *Server) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	method, begun := path.Base(info.FullMethod), time.Now()
	defer func() {
		if fault := recover(); fault != nil {
			err = s.panicked(method, fault)
		}
		err = toStatus(err)
		code := status.Code(err)
		took := time.Since(begun)
		s.Metrics.called(method, code, took)
		attributes := []any{"method", method, "volume", volumeOf(req), "duration", took.Round(time.Millisecond).String(), "code", code.String()}
		switch {
		case err != nil && code != codes.NotFound:
			s.Log.Warn("call", append(attributes, "error", status.Convert(err).Message())...)
		case err != nil:
			s.Log.Info("call", append(attributes, "error", status.Convert(err).Message())...)
		case quiet[method]:
			s.Log.Debug("call", attributes...)
		default:
			s.Log.Info("call", attributes...)
		}
		if s.Log.Enabled(ctx, LevelRequests) {
			s.Log.Log(ctx, LevelRequests, "messages", "method", method, "request", protosanitizer.StripSecrets(req).String(), "answer", protosanitizer.StripSecrets(answer).String())
		}
	}()
	return handler(ctx, req)
}

// quiet are the frequent calls that change nothing.
var quiet = map[string]bool{"Probe": true, "GetPluginInfo": true, "GetPluginCapabilities": true, "NodeGetCapabilities": true, "ControllerGetCapabilities": true, "NodeGetVolumeStats": true, "GetCapacity": true}

// The deadlines are generous: a call that reaches one is stuck or has waited for a lock. What it
// began is undone, or continued by the next call.
const (
	readDeadline  = time.Minute
	mountDeadline = 30 * time.Minute // a file system may have to be checked or created
	longDeadline  = 4 * time.Hour    // terabytes are copied or erased
)

var deadlines = map[string]time.Duration{
	"CreateVolume": longDeadline, "DeleteVolume": longDeadline, "ControllerExpandVolume": longDeadline, "NodeExpandVolume": longDeadline,
	"NodeStageVolume": mountDeadline, "NodeUnstageVolume": mountDeadline, "NodePublishVolume": mountDeadline,
	"NodeUnpublishVolume": longDeadline, // it erases inline volumes
}

// deadlineOf returns the time limit of a call.
func deadlineOf(method string) time.Duration {
	if d, ok := deadlines[method]; ok {
		return d
	}
	return readDeadline
}

// oneAtATime returns Aborted for a call on a volume for which another call is in progress, as the
// CSI spec recommends. A call that changes something continues after its caller has gone: zeroing
// a large volume takes longer than callers wait, and would start again with each retry. Each call
// has its own deadline, at which it returns even if the kernel does not.
func (s *Server) oneAtATime(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method, names := path.Base(info.FullMethod), volumesOf(req)
	if quiet[method] {
		names = nil
	}
	if !s.work.begin(names...) {
		return nil, status.Errorf(codes.Aborted, "volume %s: another call for it is in progress; try again when that has finished", names[0])
	}
	limit := deadlineOf(method)
	if s.deadline != nil {
		limit = s.deadline(method)
	}
	ownContext := ctx
	if len(names) > 0 {
		ownContext = context.WithoutCancel(ctx)
	}
	ownContext, cancel := context.WithTimeout(ownContext, limit)
	type ending struct {
		answer any
		err    error
	}
	ended := make(chan ending, 1)
	s.detached.Go(func() {
		var e ending
		defer func() {
			if fault := recover(); fault != nil {
				e.err = s.panicked(method, fault)
			}
			s.work.end(names...)
			if len(names) > 0 && ctx.Err() != nil {
				s.Log.Info("finished after its caller had gone", "method", method, "volume", names[0], "code", status.Code(toStatus(e.err)).String())
			}
			ended <- e
			cancel()
		}()
		e.answer, e.err = handler(ownContext, req)
	})
	select {
	case e := <-ended:
		return e.answer, e.err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-ownContext.Done():
	}
	select {
	case e := <-ended:
		return e.answer, e.err
	case <-time.After(time.Second):
		return nil, status.Errorf(codes.DeadlineExceeded, "%s: did not finish within %v; next: see what blocks it: dmesg | tail, and cat /run/pmemctl/*.lock", method, limit)
	}
}

func (s *Server) panicked(method string, fault any) error {
	s.Log.Error("panic", "method", method, "fault", fault, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s: internal error in pmemctl: %v", method, fault)
}

// volumeOf returns the ID of the volume of a call; "" if there is none.
func volumeOf(req any) string {
	switch r := req.(type) {
	case *csi.CreateVolumeRequest:
		if r.GetName() == "" {
			return ""
		}
		return volumeName(r.GetName())
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	}
	return ""
}

// volumesOf returns the volumes that a call may change: the ID in a publish call may also be that
// of an inline volume.
func volumesOf(req any) []string {
	name := volumeOf(req)
	if name == "" {
		return nil
	}
	switch req.(type) {
	case *csi.NodePublishVolumeRequest, *csi.NodeUnpublishVolumeRequest:
		return []string{name, ephemeralName(name)}
	}
	return []string{name}
}
