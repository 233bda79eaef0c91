package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// cleanUpTimeout limits the removal of a volume.
const cleanUpTimeout = time.Minute

// ownName matches the names of the volumes that newName makes.
var ownName = regexp.MustCompile(`^pmemctl-bench-[0-9a-f]{16}-(lvm|direct)$`)

// newName returns a random name for a volume. It is recorded before there is such a volume, so that
// the volume is removed even if the process is killed.
func (b *Bench) newName(kind volume.Type) (string, error) {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	name := "pmemctl-bench-" + hex.EncodeToString(random) + "-" + string(kind)
	err := os.MkdirAll(b.Records, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.Records, name), nil, 0o600)
	}
	if err == nil {
		err = syncDir(b.Records)
	}
	return name, errs.Wrap("", b.Records, "cannot be written", "", err)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (b *Bench) mountPoint(name string) string { return filepath.Join(b.Mounts, name) }

// remove removes a volume, wherever it was interrupted, and then its record. It has nothing but
// what fio wrote, so it is not erased.
func (b *Bench) remove(ctx context.Context, name string) error {
	if _, err := b.Volumes.Unmount(ctx, name, ""); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if _, err := b.Volumes.Delete(ctx, name, false); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if err := os.Remove(b.mountPoint(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(filepath.Join(b.Records, name))
}

// RemoveLeftovers removes what benches left that were killed. No bench may be running.
func (b *Bench) RemoveLeftovers(ctx context.Context) error {
	entries, err := os.ReadDir(b.Records)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !ownName.MatchString(e.Name()) {
			continue
		}
		if failed := b.remove(ctx, e.Name()); failed != nil {
			err = errors.Join(err, errs.Wrap("", "volume "+e.Name(), "was left by a bench that was killed, and cannot be removed", "pmemctl volume delete "+e.Name()+" --unmount --no-erase", failed))
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Leftovers returns the names of the volumes that benches left.
func Leftovers(records string) (names []string) {
	entries, _ := os.ReadDir(records)
	for _, e := range entries {
		if ownName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}
