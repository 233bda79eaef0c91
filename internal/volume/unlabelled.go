package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A region without labels has one namespace, which has neither name nor UUID. The only field that
// the kernel keeps for its owner is the UUID in its info block, so pmemctl's mark is there:
//
//	706d656d-6374-8S01-80HH-HHHHHHRRRRRR
//
// "pmemct", a UUID of version 8 (RFC 9562, section 5.8), S for the mark, H of the hash of the
// volume group's name, and R at random. Other programs write another UUID, and the namespace is
// then foreign.
var markedUUID = []byte("pmemct")

const (
	markedFormat = 1
	// Offsets in a marked UUID.
	markedState, markedVersion, markedVariant, markedHash, markedRandom = 6, 7, 8, 9, 13
)

// markedStates are the marks that a namespace without a label can have.
var markedStates = map[byte]string{1: markJoining, 2: markMember}

// unknown begins the name of a volume group of which only the hash is known.
const unknown = "unknown-"

// isGroup reports whether a name from a mark is that of a volume group.
func isGroup(marked, vg string) bool {
	return marked == vg || marked == fmt.Sprintf("%s%x", unknown, hashOf(vg))
}

// hashOf returns the hash of a volume group's name in a marked UUID.
func hashOf(vg string) []byte {
	sum := sha256.Sum256([]byte(vg))
	return sum[:markedRandom-markedHash]
}

// markUUID returns the UUID for a namespace name with a mark. The part of old that does not depend
// on the name is kept: it identifies the namespace.
func markUUID(name string, old uuid.UUID) (uuid.UUID, error) {
	mark, vg := parseMark(name)
	for state, m := range markedStates {
		if m != mark {
			continue
		}
		id := uuid.UUID{}
		if _, err := rand.Read(id[markedRandom:]); err != nil {
			return id, err
		}
		if isMarkedUUID(old) {
			copy(id[markedRandom:], old[markedRandom:])
		}
		copy(id[:], markedUUID)
		id[markedState], id[markedVersion], id[markedVariant] = 0x80|state, markedFormat, 0x80
		copy(id[markedHash:], hashOf(vg))
		return id, nil
	}
	return uuid.UUID{}, errs.New(errs.Internal, "namespace name "+quote(name), "has no form for a region without labels", "")
}

func isMarkedUUID(id uuid.UUID) bool {
	_, known := markedStates[id[markedState]&0x0f]
	return bytes.HasPrefix(id[:], markedUUID) && known && id[markedState]&0xf0 == 0x80 && id[markedVersion] == markedFormat && id[markedVariant] == 0x80
}

// MarkedName returns the name for a marked UUID: the mark and that of the candidates that has the
// hash, or else a name that shows the hash.
func MarkedName(infoUUID string, candidates ...string) (name string, ok bool) {
	id, err := uuid.Parse(infoUUID)
	if err != nil || !isMarkedUUID(id) {
		return "", false
	}
	hash := id[markedHash:markedRandom]
	vg := fmt.Sprintf("%s%x", unknown, hash)
	for _, c := range candidates {
		if bytes.Equal(hashOf(c), hash) {
			vg = c
		}
	}
	return markedStates[id[markedState]&0x0f] + vg, true
}

// identityOf returns the part of a marked UUID that identifies the region; 0 if there is none.
func identityOf(infoUUID string) (identity uint64) {
	id, err := uuid.Parse(infoUUID)
	if err != nil || !isMarkedUUID(id) {
		return 0
	}
	for _, b := range id[markedVariant:] {
		identity = identity<<8 | uint64(b)
	}
	return identity
}

// unlabelled is an NDCTL in which the namespaces of regions without labels have a name and a UUID
// too, as far as pmemctl has marked them.
type unlabelled struct {
	NDCTL
	devices Devices
	// archive is the directory with the metadata of volume groups, whose names are candidates.
	archive string
}

// WithUnlabelled returns an NDCTL that also names the namespaces of regions without labels.
func WithUnlabelled(inner NDCTL, devices Devices, archive string) NDCTL {
	return unlabelled{inner, devices, archive}
}

// candidates are the names that a volume group may have: the usual ones, and those in the archive.
func (u unlabelled) candidates() []string {
	names := []string{DefaultSpanVG}
	for i := range 64 {
		names = append(names, fmt.Sprintf("%sregion%d", DefaultSpanVG, i))
	}
	entries, _ := os.ReadDir(u.archive)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// describe sets the name and UUID of marked namespaces. Another program's UUID may occur twice, as
// images are copied, and is not one to find a namespace by.
func (u unlabelled) describe(all []pmem.Namespace) []pmem.Namespace {
	for i := range all {
		n := &all[i]
		if n.UUID != "" || identityOf(n.InfoUUID) == 0 {
			continue
		}
		n.UUID = n.InfoUUID
		n.Name, _ = MarkedName(n.InfoUUID, u.candidates()...)
	}
	return all
}

func (u unlabelled) describeOne(n pmem.Namespace, err error) (pmem.Namespace, error) {
	return u.describe([]pmem.Namespace{n})[0], err
}

func (u unlabelled) Snapshot(sel ndctl.Select) (pmem.System, error) {
	sys, err := u.NDCTL.Snapshot(sel)
	u.describe(sys.Namespaces)
	return sys, err
}

func (u unlabelled) EnabledFSDAX() []pmem.Namespace { return u.describe(u.NDCTL.EnabledFSDAX()) }

// device returns the namespace without a label that has a UUID; false if the UUID is none of those.
// A UUID can be copied: if two have it, it is the name of neither.
func (u unlabelled) device(key string) (n pmem.Namespace, ok bool, err error) {
	id, err := uuid.Parse(key)
	if err != nil || !isMarkedUUID(id) {
		return n, false, nil
	}
	sys, err := u.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return n, false, err
	}
	found := slices.DeleteFunc(sys.Namespaces, func(n pmem.Namespace) bool { return n.UUID != key || n.InfoUUID != key })
	switch len(found) {
	case 0:
		return n, false, nil // the inner NDCTL says that it does not exist
	case 1:
		return found[0], true, nil
	}
	return n, false, twins(found[0].Dev, found[1].Dev)
}

// CreateNamespace also zeroes the beginning of a namespace without a label: an earlier owner's
// signature would stay in front of the info block.
func (u unlabelled) CreateNamespace(spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	if mark, _ := parseMark(spec.Name); mark != markJoining {
		return u.NDCTL.CreateNamespace(spec)
	}
	sys, err := u.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return pmem.Namespace{}, err
	}
	if r, ok := sys.Region(spec.Region); ok && !r.Labels {
		id, err := markUUID(spec.Name, uuid.Nil)
		if err != nil {
			return pmem.Namespace{}, err
		}
		spec.Name, spec.UUID, spec.InfoUUID = "", "", id.String()
		for _, n := range sys.InRegion(spec.Region) {
			if err := u.wipe(n.Dev, 0); err != nil {
				return pmem.Namespace{}, err
			}
		}
	}
	return u.describeOne(u.NDCTL.CreateNamespace(spec))
}

// wipe zeroes both ends of a namespace without a label, and what is in front of its data, which
// begins at an offset in bytes. The info block goes last: with it, an interrupted call can be
// repeated. The namespace is disabled then.
func (u unlabelled) wipe(dev string, data uint64) error {
	block, err := u.NDCTL.EnableRaw(dev)
	if err != nil {
		return err
	}
	return errors.Join(u.zeroBackwards("/dev/"+block, data+endSize), u.NDCTL.DisableRaw(dev))
}

func (u unlabelled) zeroBackwards(path string, head uint64) error {
	dev, err := u.devices.Hold(path)
	if err != nil {
		return err
	}
	const info = pmem.InfoBlockOffset + pmem.InfoBlockSize
	ctx, size := context.Background(), dev.Size()
	err = dev.Zero(ctx, size-min(endSize, size), size, nil)
	if err == nil {
		err = dev.Zero(ctx, min(info, size), min(head, size), nil)
	}
	if err == nil {
		err = dev.Zero(ctx, 0, min(info, size), nil)
	}
	return errors.Join(err, dev.Close())
}

// RenameNamespace replaces the UUID in the info block of a namespace without a label. A power
// failure while the 4 KiB are written can destroy the info block, so this is done only while no
// volume is on the namespace.
func (u unlabelled) RenameNamespace(key, name string) (pmem.Namespace, error) {
	n, ok, err := u.device(key)
	if err != nil {
		return n, err
	}
	if !ok {
		return u.describeOne(u.NDCTL.RenameNamespace(key, name))
	}
	id, err := markUUID(name, uuid.MustParse(n.InfoUUID))
	if err != nil {
		return pmem.Namespace{}, err
	}
	block, err := u.NDCTL.EnableRaw(n.Dev)
	if err != nil {
		return pmem.Namespace{}, err
	}
	err = u.replaceUUID("/dev/"+block, id)
	if failed := u.NDCTL.DisableRaw(n.Dev); failed != nil {
		return pmem.Namespace{}, errors.Join(err, failed)
	}
	renamed, failed := u.describeOne(u.NDCTL.EnableNamespace(n.Dev))
	return renamed, errors.Join(err, failed)
}

// replaceUUID replaces the UUID in the info block on a raw device.
func (u unlabelled) replaceUUID(path string, id uuid.UUID) error {
	dev, err := u.devices.Hold(path)
	if err != nil {
		return err
	}
	block := make([]byte, pmem.InfoBlockSize)
	if _, err = dev.ReadAt(block, pmem.InfoBlockOffset); err == nil {
		block, err = pmem.WithUUID(block, id)
	}
	if err == nil {
		err = dev.Write(block, pmem.InfoBlockOffset)
	}
	return errors.Join(err, dev.Close())
}

func (u unlabelled) EnableNamespace(key string) (pmem.Namespace, error) {
	n, ok, err := u.device(key)
	if err != nil {
		return n, err
	}
	if ok {
		key = n.Dev
	}
	return u.describeOne(u.NDCTL.EnableNamespace(key))
}

// DestroyNamespace zeroes the beginning of a namespace without a label: with its info block, the
// kernel would bring it up again, and an earlier owner's signature may be in front of that. The
// kernel's struct pages go too, so that of a namespace without volumes nothing remains.
func (u unlabelled) DestroyNamespace(key string) error {
	n, ok, err := u.device(key)
	if err != nil {
		return err
	}
	if !ok {
		return u.NDCTL.DestroyNamespace(key)
	}
	if err := u.wipe(n.Dev, n.RawSize-min(n.RawSize, n.Size)); err != nil {
		return err
	}
	return u.NDCTL.DestroyNamespace(n.Dev)
}

// nameUnlabelled names the namespaces without a label after the volume groups that LVM finds on
// them, if that was the name when they were marked.
func (s *Service) nameUnlabelled(v View) {
	for i, n := range v.PMEM.Namespaces {
		if n.Labels || identityOf(n.InfoUUID) == 0 {
			continue
		}
		vg, in := v.groupOf(blockPath(n))
		name, ok := MarkedName(n.InfoUUID, vg.Name)
		if _, named := parseMark(name); !in || !ok || named != vg.Name || n.Name == name {
			continue
		}
		v.PMEM.Namespaces[i].Name = name
		_ = s.makeNameKnown(vg.Name)
	}
}

// makeNameKnown makes the name of a volume group a candidate for marks, which have only its hash.
func (s *Service) makeNameKnown(vg string) error {
	if s.ArchiveDir == "" {
		return nil
	}
	return os.MkdirAll(filepath.Join(s.ArchiveDir, vg), 0o700)
}

// onlyOne returns an error if another namespace has the UUID of one: without labels, a copy does.
func (v View) onlyOne(n pmem.Namespace) error {
	for _, other := range v.PMEM.Namespaces {
		if other.UUID == n.UUID && other.Dev != n.Dev {
			return twins(n.Dev, other.Dev)
		}
	}
	return nil
}

func twins(dev, other string) error {
	return errs.New(errs.Conflict, "namespace "+dev, "has the same UUID as "+other+": one is a copy", "disable the copy: ndctl disable-namespace")
}
