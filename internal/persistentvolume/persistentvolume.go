// Package persistentvolume rewrites PersistentVolumes of other drivers for volumes that pmemctl has adopted. It
// needs no Kubernetes client: objects are read and written as JSON.
package persistentvolume

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// The drivers whose volumes pmemctl adopts.
const (
	PMEMCSI = "pmem-csi.intel.com"
	Alibaba = "localplugin.csi.alibabacloud.com"
)

// Rewriting describes how PersistentVolumes are rewritten.
type Rewriting struct {
	From        []string // names of drivers
	Driver      string   // pmemctl's name
	TopologyKey string   // of pmemctl's driver; its value is the name of the node
	// Names are the names of volumes that "adopt NAMESPACE=NAME" or lvrename gave them, by the old
	// volumeHandle.
	Names map[string]string
}

// OldPolicy is the annotation with the reclaim policy of the old object. The new one has Retain, so
// that nothing is deleted before its claim is bound again.
const OldPolicy = "pmemctl.io/old-reclaim-policy"

// List is a Kubernetes List of objects.
type List struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Items      []map[string]any `json:"items"`
}

// Kept is a PersistentVolume of one of the drivers that is not rewritten, with the reason.
type Kept struct{ Name, Reason string }

// Rewrite reads a PersistentVolume, or a List of objects as "kubectl get pv -o json" prints it, and
// returns the PersistentVolumes of the drivers as pmemctl would have them. They keep their names
// and their claims. Other objects are ignored.
func (r Rewriting) Rewrite(in io.Reader) (List, []Kept, error) {
	list := List{APIVersion: "v1", Kind: "List", Items: []map[string]any{}}
	var top map[string]any
	decoder := json.NewDecoder(in)
	decoder.UseNumber()
	if err := decoder.Decode(&top); err != nil {
		return list, nil, errs.Wrap(errs.Invalid, "PersistentVolumes", "cannot be read", "give what this prints: kubectl get pv -o json", err)
	}
	objects := []any{top}
	if items, isList := top["items"].([]any); isList {
		objects = items
	}
	var kept []Kept
	handles := map[string]int{} // of all volumes that pmemctl has or would have
	for _, o := range objects {
		old, _ := o.(map[string]any)
		switch {
		case r.concerns(old):
			handles[r.name(old)]++
		case text(old, "spec", "csi", "driver") == r.Driver:
			handles[text(old, "spec", "csi", "volumeHandle")]++
		}
	}
	for _, o := range objects {
		old, _ := o.(map[string]any)
		if old["kind"] != "PersistentVolume" || !r.concerns(old) {
			continue
		}
		pv, reason := r.rewrite(old)
		if name := r.name(old); handles[name] > 1 {
			reason = "there are several with the volume " + name + "; give one of them another name, and name it with --rename"
		}
		if reason != "" {
			kept = append(kept, Kept{text(old, "metadata", "name"), reason})
			continue
		}
		list.Items = append(list.Items, pv)
	}
	return list, kept, nil
}

// concerns reports whether an object is one of the other drivers. The overlay ack has the name of
// Alibaba Cloud's driver, whose topology key tells its objects from pmemctl's.
func (r Rewriting) concerns(old map[string]any) bool {
	driver := text(old, "spec", "csi", "driver")
	if driver == r.Driver && (r.TopologyKey == alibabaKey || !slices.Contains(affinityKeys(old), alibabaKey)) {
		return false
	}
	return slices.Contains(r.From, driver)
}

// affinityKeys returns the labels in the node affinity of an object.
func affinityKeys(old map[string]any) (keys []string) {
	terms, _ := object(old, "spec", "nodeAffinity", "required")["nodeSelectorTerms"].([]any)
	for _, t := range terms {
		term, _ := t.(map[string]any)
		expressions, _ := term["matchExpressions"].([]any)
		for _, e := range expressions {
			expression, _ := e.(map[string]any)
			keys = append(keys, text(expression, "key"))
		}
	}
	return keys
}

// rewrite returns a new object: nothing of the old driver is taken over unseen.
func (r Rewriting) rewrite(old map[string]any) (pv map[string]any, reason string) {
	if text(old, "metadata", "deletionTimestamp") != "" {
		return nil, "it is being deleted"
	}
	if phase := text(old, "status", "phase"); phase == "Released" || phase == "Failed" {
		return nil, "it is " + phase + ": its claim is gone, and the new object would lead to the deletion of the volume"
	}
	name := r.name(old)
	if volume.ValidateName(name) != nil {
		return nil, fmt.Sprintf("its volumeHandle %q cannot be the name of a volume", text(old, "spec", "csi", "volumeHandle"))
	}
	affinity, reason := r.affinity(old)
	if reason != "" {
		return nil, reason
	}
	source := map[string]any{"driver": r.Driver, "volumeHandle": name}
	copyKeys(source, object(old, "spec", "csi"), "fsType", "readOnly")
	spec := map[string]any{"csi": source, "nodeAffinity": affinity}
	copyKeys(spec, object(old, "spec"), "accessModes", "capacity", "mountOptions", "storageClassName", "volumeMode")
	spec["persistentVolumeReclaimPolicy"] = "Retain"
	// With the claim's UID, the claim is bound to the new object as it was to the old one.
	if claim := object(old, "spec", "claimRef"); claim != nil {
		claim = maps.Clone(claim)
		delete(claim, "resourceVersion")
		spec["claimRef"] = claim
	}
	meta := map[string]any{"name": text(old, "metadata", "name")}
	copyKeys(meta, object(old, "metadata"), "labels")
	annotations := map[string]any{}
	for key, value := range object(old, "metadata", "annotations") {
		if !strings.HasPrefix(key, "volume.kubernetes.io/provisioner-deletion-") && key != "kubectl.kubernetes.io/last-applied-configuration" {
			annotations[key] = value
		}
	}
	// The external-provisioner deletes only volumes of its own driver.
	annotations["pv.kubernetes.io/provisioned-by"] = r.Driver
	if _, again := annotations[OldPolicy]; !again {
		annotations[OldPolicy] = text(old, "spec", "persistentVolumeReclaimPolicy")
	}
	meta["annotations"] = annotations
	return map[string]any{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}, ""
}

// name returns the name of the volume of an object.
func (r Rewriting) name(old map[string]any) string {
	handle := text(old, "spec", "csi", "volumeHandle")
	if name, renamed := r.Names[handle]; renamed {
		return name
	}
	return volume.AdoptedName(handle)
}

// alibabaKey is the topology key of Alibaba Cloud's driver, whose value is the name of the node
// too. No external-provisioner of pmemctl's would delete a volume with this key.
const alibabaKey = "kubernetes.io/hostname"

// affinity returns the node affinity with the old driver's topology key replaced. The drivers and
// pmemctl all have the name of the node as the value.
func (r Rewriting) affinity(old map[string]any) (affinity map[string]any, reason string) {
	terms, _ := object(old, "spec", "nodeAffinity", "required")["nodeSelectorTerms"].([]any)
	var rewritten []any
	for _, t := range terms {
		term, _ := t.(map[string]any)
		expressions, _ := term["matchExpressions"].([]any)
		var all []any
		for _, e := range expressions {
			expression, _ := e.(map[string]any)
			driver := text(old, "spec", "csi", "driver")
			switch key := text(expression, "key"); {
			case key == driver+"/node", key == alibabaKey && driver == Alibaba:
				expression = maps.Clone(expression)
				expression["key"] = r.TopologyKey
			case key == alibabaKey, key == r.TopologyKey:
			default:
				return nil, fmt.Sprintf("its node affinity has the key %q, whose nodes are not known; write the object by hand", key)
			}
			all = append(all, expression)
		}
		if len(all) == 0 || len(term) != 1 {
			return nil, "its node affinity is not a list of labels"
		}
		rewritten = append(rewritten, map[string]any{"matchExpressions": all})
	}
	if len(rewritten) == 0 {
		return nil, "it has no node affinity, so the node that has its data is not known"
	}
	return map[string]any{"required": map[string]any{"nodeSelectorTerms": rewritten}}, ""
}

func copyKeys(to, from map[string]any, keys ...string) {
	for _, k := range keys {
		if v, ok := from[k]; ok {
			to[k] = v
		}
	}
}

// object returns the object at a path; nil if there is none.
func object(o map[string]any, path ...string) map[string]any {
	for _, key := range path {
		o, _ = o[key].(map[string]any)
	}
	return o
}

func text(o map[string]any, path ...string) string {
	s, _ := object(o, path[:len(path)-1]...)[path[len(path)-1]].(string)
	return s
}
