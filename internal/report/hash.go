package report

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// HashNames replaces the names of volumes, the paths that they are mounted on, and others, in a
// state and in files. Equal names stay equal within one archive. Files that have the names of
// former volumes are omitted: logs, and old metadata of LVM. Names of devices, regions and volume
// groups are kept, because they say nothing of their users.
func HashNames(s State, files []File, others ...string) (State, []File, error) {
	names := others
	for _, list := range [][]volume.Volume{s.Volumes, s.Deleted} {
		for _, vol := range list {
			names = append(names, vol.Name)
		}
	}
	for _, mounts := range s.Mounted {
		for _, m := range mounts {
			names = append(names, m.Path)
		}
	}
	for _, c := range s.Conditions {
		names = append(names, c.Name)
		for _, m := range c.Mounts {
			names = append(names, m.Path)
		}
	}
	for _, d := range s.Damage {
		names = append(append(names, d.Volume), d.Volumes...)
	}
	for _, x := range s.Stranded {
		names = append(names, x.LV)
		if x.LV == "" {
			names = append(names, x.Name)
		}
	}
	for _, l := range s.Locks {
		if name, ok := strings.CutPrefix(l.Name, "volume-"); ok {
			names = append(names, name)
		}
	}
	for _, state := range []lvm.State{s.LVM, s.Foreign} {
		for _, vg := range state.VGs {
			for _, lv := range vg.LVs {
				names = append(names, lv.Name)
			}
		}
	}
	for _, n := range s.PMEM.Namespaces {
		if owner, own := volume.Owned(n.Name); own {
			if name, ok := strings.CutPrefix(owner, "volume "); ok {
				names = append(names, name)
			}
		} else {
			names = append(names, n.Name)
		}
	}
	h, err := newHasher(names)
	if err != nil {
		return s, nil, err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return s, nil, err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return s, nil, err
	}
	if data, err = json.Marshal(h.values("", tree)); err != nil {
		return s, nil, err
	}
	var hashed State
	if err := json.Unmarshal(data, &hashed); err != nil {
		return s, nil, err
	}
	var out []File
	for _, f := range files {
		if strings.HasPrefix(f.Name, "log/") || strings.HasPrefix(f.Name, "var/lib/pmemctl/lvm/") {
			continue
		}
		out = append(out, File{h.text(f.Name), f.What, []byte(h.text(string(f.Data)))})
	}
	return hashed, out, nil
}

// hasher replaces names in texts.
type hasher struct {
	hashes map[string]string
	names  []string // the longest first
}

// reserved are words of pmemctl's own that a volume may have as its name.
var reserved = []string{"lvm", "direct", "ready", "creating", "deleting", "damaged", "ok", "note", "warning", "fault", "enabled", "disabled", "fsdax", "devdax", "raw", "ext4", "xfs"}

func newHasher(names []string) (hasher, error) {
	h := hasher{hashes: map[string]string{}}
	// Without the salt, a name could be guessed.
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return h, err
	}
	for _, name := range names {
		if len(name) < 2 || slices.Contains(reserved, name) {
			continue
		}
		sum := sha256.Sum256(append(salt[:len(salt):len(salt)], name...))
		hash := "x" + hex.EncodeToString(sum[:5])
		if strings.HasPrefix(name, "/") {
			hash = "/" + hash
		}
		h.hashes[name] = hash
		// The device mapper doubles hyphens in names.
		h.hashes[strings.ReplaceAll(name, "-", "--")] = hash
		h.hashes[strings.ReplaceAll(name, " ", `\040`)] = hash // in /proc/self/mountinfo
	}
	h.names = slices.SortedFunc(maps.Keys(h.hashes), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return h, nil
}

// text replaces names, the longest first, where they are words of their own.
func (h hasher) text(s string) string {
	for _, name := range h.names {
		s = replaceBounded(s, name, h.hashes[name])
	}
	return s
}

// replaceBounded replaces a name where neither a letter nor a digit is beside it.
func replaceBounded(w, name, with string) string {
	var out strings.Builder
	for {
		at := strings.Index(w, name)
		if at < 0 {
			out.WriteString(w)
			return out.String()
		}
		end := at + len(name)
		bounded := (at == 0 || isBound(w[at-1])) && (end == len(w) || isBound(w[end]))
		out.WriteString(w[:at])
		if bounded {
			out.WriteString(with)
		} else {
			out.WriteString(name)
		}
		w = w[end:]
	}
}

func isBound(c byte) bool {
	return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_')
}

// bearing are the keys of State whose strings have names of volumes, in lower case.
var bearing = []string{
	"name", "volume", "volumes", "device", "path", "source", "root", "lv", "lvs", "object", "holder", "health", "reason", "next", "detail", "options", "own",
	"super", "problems", "read_errors", "look_error", "conditions_error", "unreadable", "failed", "node",
}

// values replaces names in the strings below keys that bear names, and in keys that are paths.
func (h hasher) values(key string, v any) any {
	switch v := v.(type) {
	case string:
		if slices.Contains(bearing, strings.ToLower(key)) {
			return h.text(v)
		}
		return v
	case []any:
		for i := range v {
			v[i] = h.values(key, v[i])
		}
		return v
	case map[string]any:
		replaced := map[string]any{}
		for key, value := range v {
			name := key
			if strings.HasPrefix(key, "/") {
				name = h.text(key)
			}
			replaced[name] = h.values(key, value)
		}
		return replaced
	}
	return v
}
