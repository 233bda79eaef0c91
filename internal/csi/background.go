package csi

import (
	"context"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Work that the server does in the background. Calls never wait for it: a node must be able to
// unmount whatever blocks the rest.

const (
	resumeLimit  = time.Minute      // for one attempt, mostly to wait for a lock
	prepareLimit = 10 * time.Minute // the kernel creates struct pages for terabytes
	lookLimit    = time.Minute
	longestRetry = 5 * time.Minute
)

// Tests set shorter ones.
var (
	firstRetry     = 5 * time.Second
	createPatience = 5 * time.Second // shorter than the timeout of the sidecars
)

// preparation is the state of preparing the PMEM.
type preparation struct {
	once      sync.Once
	attempted chan struct{} // closed when the first attempt has finished
	mu        sync.Mutex
	failed    error // of the last attempt; nil if it succeeded
}

func (p *preparation) firstAttempt() chan struct{} {
	p.once.Do(func() { p.attempted = make(chan struct{}) })
	return p.attempted
}

func (p *preparation) ended(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = err
	select {
	case <-p.firstAttempt():
	default:
		close(p.firstAttempt())
	}
}

// preparing reports whether the first attempt is in progress, and why the last one failed; nil if
// nothing is left to prepare.
func (s *Server) preparing() (first bool, failed error) {
	if s.Prepare == nil {
		return false, nil
	}
	select {
	case <-s.preparation.firstAttempt():
	default:
		return true, nil
	}
	s.preparation.mu.Lock()
	defer s.preparation.mu.Unlock()
	return false, s.preparation.failed
}

// Background runs the background work until the context ends: it resumes suspended volumes,
// prepares the PMEM, and removes what a crash left.
func (s *Server) Background(ctx context.Context) error {
	var wg sync.WaitGroup
	if s.Resume != nil {
		wg.Go(func() {
			s.untilDone(ctx, "could not look for volumes left suspended", resumeLimit, func(ctx context.Context) error {
				resumed, err := s.Resume(ctx)
				if len(resumed) > 0 {
					s.Log.Warn("resumed volumes that a killed lvm left suspended", "volumes", resumed)
				}
				return err
			})
		})
	}
	if s.Prepare != nil {
		wg.Go(func() {
			s.untilDone(ctx, "the PMEM could not be prepared", prepareLimit, func(ctx context.Context) error {
				err := s.Prepare(ctx)
				s.preparation.ended(err)
				return err
			})
		})
	}
	wg.Go(func() {
		if s.Prepare != nil { // it enables groups, with what was left in them
			select {
			case <-s.preparation.firstAttempt():
			case <-ctx.Done():
				return
			}
		}
		wg.Go(func() { s.eraseDeleted(ctx) })
		s.untilDone(ctx, "could not look for what a crash left", 0, s.clearAway)
	})
	wg.Wait()
	<-ctx.Done()
	return nil
}

// untilDone retries with growing intervals until do succeeds, and logs a failure when its reason
// changes. A limit of 0 is none.
func (s *Server) untilDone(ctx context.Context, failure string, limit time.Duration, do func(context.Context) error) {
	told := ""
	for wait := firstRetry; ; wait = min(2*wait, longestRetry) {
		err := within(ctx, limit, do)
		if err == nil || ctx.Err() != nil {
			return
		}
		if reason := err.Error(); reason != told {
			s.Log.Error(failure, "error", reason, "next", errs.NextStep(err), "again_in", wait.String())
			told = reason
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return do(ctx)
}

// clearAway removes inline volumes of pods that are gone.
func (s *Server) clearAway(ctx context.Context) error {
	var volumes []volume.Volume
	err := within(ctx, lookLimit, func(ctx context.Context) (err error) {
		volumes, err = s.Volumes.List(ctx)
		return err
	})
	if err != nil {
		return err
	}
	s.removeAbandonedInline(ctx, volumes)
	return ctx.Err()
}

// afterPreparation delays the calls that create volumes or report capacity until the first
// preparation has finished: a volume created before it would change what is prepared. UNAVAILABLE
// makes the sidecars retry and keep the known capacity.
func (s *Server) afterPreparation(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	if first, _ := s.preparing(); first && (method == "CreateVolume" || method == "GetCapacity") {
		select {
		case <-s.preparation.firstAttempt():
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-time.After(createPatience):
			return nil, status.Error(codes.Unavailable, "the PMEM of this node is being prepared; volumes are created when that is done, and existing volumes are mounted and unmounted meanwhile; next: see in the server's log what it waits for")
		}
	}
	return handler(ctx, req)
}

// notPrepared adds a failed preparation, as a possible reason, to the error for missing space.
func (s *Server) notPrepared(err error) error {
	if _, failed := s.preparing(); failed != nil && errs.Is(err, errs.NoSpace) {
		return errs.New(errs.NoSpace, "", err.Error()+"; the PMEM of this node could not be prepared and will be retried: "+failed.Error(), errs.NextStep(failed))
	}
	return err
}
