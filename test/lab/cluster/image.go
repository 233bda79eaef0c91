package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is a container image, under the names that nodes may pull it by, such as
// registry.k8s.io/sig-storage/csi-resizer:v2.2.0.
type Image struct {
	Names []string
	image v1.Image
}

// Contents are what an image of a few files is made of.
type Contents struct {
	// Files are files of this machine, by their path in the image. Links are symbolic
	// links there, by their path.
	Files, Links map[string]string
	Entrypoint   []string
}

// NewImage makes an image.
func NewImage(c Contents, names ...string) (Image, error) {
	var layer bytes.Buffer
	if err := c.writeLayer(&layer); err != nil {
		return Image{}, fmt.Errorf("image %s: %w", names[0], err)
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	// To compress costs more than to copy, for guests on the same machine.
	l, err := tarball.LayerFromOpener(opener, tarball.WithCompressionLevel(gzip.NoCompression), tarball.WithCompressedCaching)
	if err != nil {
		return Image{}, err
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux",
		Config: v1.Config{Entrypoint: c.Entrypoint, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
	})
	if err != nil {
		return Image{}, err
	}
	image, err = mutate.AppendLayers(image, l)
	return Image{names, image}, err
}

func (c Contents) writeLayer(out io.Writer) error {
	w := tar.NewWriter(out)
	made := []string{"."}
	for _, p := range slices.Sorted(keysOf(c.Files, c.Links)) {
		p = path.Join("/", p)[1:]
		var parents []string
		for d := path.Dir(p); !slices.Contains(made, d); d = path.Dir(d) {
			parents = append(parents, d)
		}
		for _, d := range slices.Backward(parents) {
			made = append(made, d)
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		if to, isLink := c.Links["/"+p]; isLink {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: p, Linkname: to, Mode: 0o777}); err != nil {
				return err
			}
			continue
		}
		data, err := os.ReadFile(c.Files["/"+p])
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: p, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return w.Close()
}

func keysOf(maps ...map[string]string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, m := range maps {
			for k := range m {
				if !yield(k) {
					return
				}
			}
		}
	}
}

// ReadArchive reads the images of an OCI archive, by their tags; it is unpacked into a
// new directory in dir.
func ReadArchive(archive, dir string) (map[string]Image, error) {
	unpacked, err := os.MkdirTemp(dir, "oci.")
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", unpacked).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", archive, err, out)
	}
	index, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	images := map[string]Image{}
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
		images[m.Annotations["org.opencontainers.image.ref.name"]] = Image{image: image}
	}
	return images, nil
}

// Named is the same image under other names.
func (i Image) Named(names ...string) Image { return Image{names, i.image} }

// busyboxCommands are those that the tests run in pods.
var busyboxCommands = []string{"cat", "cmp", "cp", "dd", "df", "echo", "ls", "mount", "nc", "rm", "sh", "sha256sum", "sleep", "stat", "sync", "tail", "test", "touch", "true", "wc"}

// withLibraries adds Debian's programs, by their path in the image, and the shared
// libraries that they need.
func (c Contents) withLibraries(programs map[string]string) (Contents, error) {
	files := maps.Clone(c.Files)
	for in, program := range programs {
		files[in] = program
		out, err := exec.Command("ldd", program).CombinedOutput()
		if err != nil {
			return c, fmt.Errorf("ldd %s: %w: %s", program, err, out)
		}
		for _, library := range libraryPath.FindAllString(string(out), -1) {
			files[library] = library
		}
	}
	c.Files = files
	return c, nil
}

var libraryPath = regexp.MustCompile(`/lib\S+`)

// BaseImages are those that a cluster needs beside pmemctl's: the sidecars, built from
// their sources, busybox with more programs in /bin, what keeps a pod alive, and the
// servers of deploy/examples.
func BaseImages(programs string, more ...string) ([]Image, error) {
	const busybox = "/bin/busybox" // Debian's busybox-static
	inPods := Contents{Files: map[string]string{"/bin/busybox": busybox}, Links: map[string]string{}, Entrypoint: []string{"/bin/sh"}}
	for _, c := range busyboxCommands {
		inPods.Links["/bin/"+c] = "busybox"
	}
	for _, p := range more {
		inPods.Files["/bin/"+filepath.Base(p)] = p
	}
	// One program is all of Redis, by the name that it is started under; the package
	// redis-server adds only that name, and a service.
	redis, err := inPods.withLibraries(map[string]string{"/usr/bin/redis-server": "/usr/bin/redis-check-rdb", "/usr/bin/redis-cli": "/usr/bin/redis-cli", "/usr/bin/redis-benchmark": "/usr/bin/redis-benchmark"})
	if err != nil {
		return nil, err
	}
	memcached, err := inPods.withLibraries(map[string]string{"/usr/bin/memcached": "/usr/bin/memcached"})
	if err != nil {
		return nil, err
	}
	sidecar := func(name string) Contents {
		return Contents{Files: map[string]string{"/" + name: filepath.Join(programs, name)}, Entrypoint: []string{"/" + name}}
	}
	var images []Image
	for _, i := range []struct {
		Contents
		names []string
	}{
		{Contents{Files: map[string]string{"/bin/busybox": busybox}, Entrypoint: []string{"/bin/busybox", "sleep", "1000000000"}}, []string{pauseImage}},
		{inPods, []string{"busybox:latest", "busybox:1"}},
		{redis, []string{"redis:7.0"}},
		{memcached, []string{"memcached:1.6"}},
		{sidecar("csi-provisioner"), []string{"registry.k8s.io/sig-storage/csi-provisioner:v6.3.0"}},
		{sidecar("csi-resizer"), []string{"registry.k8s.io/sig-storage/csi-resizer:v2.2.0"}},
	} {
		image, err := NewImage(i.Contents, i.names...)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	return images, nil
}
