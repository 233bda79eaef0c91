package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// WatchUnerased returns a channel that receives a value after Unerased may have changed, in this
// process or in another one. The channel is closed when the watch fails or the context ends.
func (s *Service) WatchUnerased(ctx context.Context) (<-chan struct{}, error) {
	if s.RunDir == "" {
		return nil, errors.New("no directory of records")
	}
	dir := filepath.Join(s.RunDir, "erasing")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(dir); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer func() { _ = watcher.Close() }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-watcher.Errors: // an overflow: something changed
			case event := <-watcher.Events:
				if event.Name == dir && event.Has(fsnotify.Remove|fsnotify.Rename) { // nothing is watched any more
					return
				}
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}
