package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// HashNames replaces the names of volumes, of the paths that they are mounted on, and others, in a
// state and in files. Equal names stay equal. Names of devices, regions and volume groups of
// pmemctl are kept, because they say nothing of their users.
func HashNames(s State, files []File, others ...string) (State, []File, error) {
	names := others
	for _, vol := range s.Volumes {
		names = append(names, vol.Name)
	}
	for _, mounts := range s.Mounted {
		for _, m := range mounts {
			names = append(names, m.Path)
		}
	}
	for _, c := range s.Conditions {
		for _, m := range c.Mounts {
			names = append(names, m.Path)
		}
	}
	for _, d := range s.Damage {
		names = append(names, d.Volumes...)
	}
	h := newHasher(names)
	data, err := json.Marshal(s)
	if err != nil {
		return s, nil, err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return s, nil, err
	}
	if data, err = json.Marshal(h.values(tree)); err != nil {
		return s, nil, err
	}
	var hashed State
	if err := json.Unmarshal(data, &hashed); err != nil {
		return s, nil, err
	}
	var out []File
	for _, f := range files {
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

func newHasher(names []string) hasher {
	h := hasher{hashes: map[string]string{}}
	for _, name := range names {
		if len(name) < 2 || slices.Contains(reserved, name) {
			continue
		}
		sum := sha256.Sum256([]byte("pmemctl report " + name))
		hash := "x" + hex.EncodeToString(sum[:5])
		if strings.HasPrefix(name, "/") {
			hash = "/" + hash
		}
		h.hashes[name] = hash
		// The device mapper doubles hyphens in names.
		h.hashes[strings.ReplaceAll(name, "-", "--")] = hash
	}
	h.names = slices.SortedFunc(maps.Keys(h.hashes), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return h
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

// values replaces names in the strings of decoded JSON, but not in keys of objects other than
// paths of devices.
func (h hasher) values(v any) any {
	switch v := v.(type) {
	case string:
		return h.text(v)
	case []any:
		for i := range v {
			v[i] = h.values(v[i])
		}
		return v
	case map[string]any:
		replaced := map[string]any{}
		for key, value := range v {
			if strings.HasPrefix(key, "/") {
				key = h.text(key)
			}
			replaced[key] = h.values(value)
		}
		return replaced
	}
	return v
}
