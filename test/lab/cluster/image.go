package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Image is a container image of a few files, for what there is no registry for.
type Image struct {
	Names []string // such as registry.k8s.io/sig-storage/csi-resizer:v2.2.0
	// Files are files of this machine, by their path in the image. Links are symbolic
	// links there, by their path.
	Files, Links map[string]string
	Entrypoint   []string
	Env          []string
}

// Write makes an archive as docker save does.
func (i Image) Write(archive string) error {
	var layer bytes.Buffer
	if err := i.writeLayer(&layer); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Env": append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, i.Env...)},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": i.Names, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, entry := range []struct {
		name string
		data []byte
	}{{"layer.tar", layer.Bytes()}, {"config.json", config}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: entry.name, Mode: 0o644, Size: int64(len(entry.data))}); err != nil {
			return err
		}
		if _, err := w.Write(entry.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func (i Image) writeLayer(out io.Writer) error {
	w := tar.NewWriter(out)
	made := []string{"."}
	for _, p := range slices.Sorted(keysOf(i.Files, i.Links)) {
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
		if to, isLink := i.Links["/"+p]; isLink {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: p, Linkname: to, Mode: 0o777}); err != nil {
				return err
			}
			continue
		}
		data, err := os.ReadFile(i.Files["/"+p])
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

// busyboxCommands are those that the tests run in pods.
var busyboxCommands = []string{"cat", "dd", "df", "echo", "ls", "mount", "rm", "sh", "sha256sum", "sleep", "stat", "sync", "test", "touch", "true", "wc"}

// WriteImages makes the archives of the images that a cluster needs beside pmemctl's:
// the sidecars, built from their sources, busybox with more programs in /bin, and what
// keeps a pod alive. It returns their paths.
func WriteImages(dir, programs string, more ...string) ([]string, error) {
	const busybox = "/bin/busybox" // Debian's busybox-static
	commands := map[string]string{}
	for _, c := range busyboxCommands {
		commands["/bin/"+c] = "busybox"
	}
	inPods := map[string]string{"/bin/busybox": busybox}
	for _, p := range more {
		inPods["/bin/"+filepath.Base(p)] = p
	}
	sidecar := func(name, version string) Image {
		return Image{Names: []string{"registry.k8s.io/sig-storage/" + name + ":" + version}, Files: map[string]string{"/" + name: filepath.Join(programs, name)}, Entrypoint: []string{"/" + name}}
	}
	images := map[string]Image{
		"pause":       {Names: []string{"lab/pause:1"}, Files: map[string]string{"/bin/busybox": busybox}, Entrypoint: []string{"/bin/busybox", "sleep", "1000000000"}},
		"busybox":     {Names: []string{"docker.io/library/busybox:latest", "docker.io/library/busybox:1"}, Files: inPods, Links: commands, Entrypoint: []string{"/bin/sh"}},
		"provisioner": sidecar("csi-provisioner", "v6.3.0"),
		"resizer":     sidecar("csi-resizer", "v2.2.0"),
	}
	var archives []string
	for name, image := range images {
		archive := filepath.Join(dir, name+".tar")
		if err := image.Write(archive); err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		archives = append(archives, archive)
	}
	slices.Sort(archives)
	return archives, nil
}
