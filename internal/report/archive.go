package report

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// stateFile is the name of the state in the archive, below the archive's directory.
const stateFile = "state.json"

// directory is the directory of all files in the archive.
const directory = "pmemctl-report/"

// maxState is the maximum size of a state in bytes that is read: an archive may be from anyone.
const maxState = 256 << 20

// File returns the file of a state.
func (s State) File() (File, error) {
	data, err := json.MarshalIndent(s, "", " ")
	return File{stateFile, "what pmemctl knows of this host, and the results of doctor", append(data, '\n')}, err
}

// write writes an archive (tar, gzip) of files.
func write(w io.Writer, files []File) error {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, f := range files {
		err := archive.WriteHeader(&tar.Header{Name: directory + f.Name, Mode: 0o600, Size: int64(len(f.Data)), ModTime: time.Now(), Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		if _, err := archive.Write(f.Data); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}

// Create writes an archive to a new file that only its owner can read. An unfinished one is
// removed.
func Create(path string, files []File) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return errs.New(errs.Conflict, path, "already exists", "use another name: --file FILE")
	}
	if err != nil {
		return errs.Wrap("", path, "cannot be created", "", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errs.Wrap("", path, "cannot be written", "", errors.Join(err, os.Remove(path)))
		}
	}()
	if err := write(f, files); err != nil {
		return err
	}
	return f.Sync()
}

// Open returns the host of an archive.
func Open(path string) (*Host, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap(errs.NotFound, "archive", "cannot be opened", "", err)
	}
	defer f.Close()
	s, err := readState(f)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, "archive "+path, "is not a report", "create one: pmemctl report", err)
	}
	if s.Format != format {
		return nil, errs.New(errs.Unsupported, "archive "+path, fmt.Sprintf("has format %d of pmemctl %s, but this version reads format %d", s.Format, s.Version, format), "use that version")
	}
	return NewHost(s), nil
}

func readState(r io.Reader) (s State, err error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return s, err
	}
	archive := tar.NewReader(zip)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return s, errors.New("it has no " + stateFile)
		}
		if err != nil {
			return s, err
		}
		if header.Name != directory+stateFile {
			continue
		}
		var data bytes.Buffer
		if n, err := io.Copy(&data, io.LimitReader(archive, maxState+1)); err != nil || n > maxState {
			return s, errors.Join(err, fmt.Errorf("%s is damaged or larger than %d bytes", stateFile, maxState))
		}
		return s, json.Unmarshal(data.Bytes(), &s)
	}
}

// DefaultName is the name of an archive that is made at a time.
func DefaultName(at time.Time) string {
	return "pmemctl-report-" + at.Format("20060102-150405") + ".tar.gz"
}
