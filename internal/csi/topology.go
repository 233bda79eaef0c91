package csi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// The topology of a node is its name and, optionally, a segment for each region and NUMA node with
// PMEM, such as csi.pmemctl.io/region0=true. A key has one value on a node, but a node may have
// several regions.

// placement is a topology as it applies to this node.
type placement struct {
	matches bool
	// within are the regions that it allows; none means all.
	within []string
}

func (s *Server) nodeSegment() map[string]string { return map[string]string{s.TopologyKey: s.NodeID} }

func (s *Server) topology(ctx context.Context) (*csi.Topology, error) {
	segments := s.nodeSegment()
	if s.RegionTopology {
		regions, err := s.Volumes.Regions(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range regions {
			for _, key := range s.keysOf(r) {
				segments[key] = "true"
			}
		}
	}
	return &csi.Topology{Segments: segments}, nil
}

func (s *Server) keysOf(r pmem.Region) []string {
	keys := []string{s.Driver + "/" + r.Dev}
	if r.NUMANode != nil {
		keys = append(keys, fmt.Sprintf("%s/numa%d", s.Driver, *r.NUMANode))
	}
	return keys
}

// here returns where a volume may be on this node, in the order to try, preferred topologies
// first. It is empty if none of the requisite topologies includes this node.
func (s *Server) here(ctx context.Context, r *csi.TopologyRequirement) ([]placement, error) {
	if len(r.GetRequisite())+len(r.GetPreferred()) == 0 {
		return []placement{{matches: true}}, nil
	}
	preferred, err := s.allHere(ctx, r.GetPreferred())
	if err != nil {
		return nil, err
	}
	required, err := s.allHere(ctx, r.GetRequisite())
	if err != nil || len(r.GetRequisite()) > 0 && len(required) == 0 {
		return nil, err
	}
	return append(preferred, required...), nil
}

func (s *Server) allHere(ctx context.Context, topologies []*csi.Topology) (places []placement, err error) {
	for _, t := range topologies {
		p, err := s.hereFor(ctx, t)
		if err != nil {
			return nil, err
		}
		same := func(q placement) bool { return slices.Equal(p.within, q.within) }
		if p.matches && !slices.ContainsFunc(places, same) {
			places = append(places, p)
		}
	}
	return places, nil
}

func (s *Server) hereFor(ctx context.Context, t *csi.Topology) (placement, error) {
	if id, named := t.GetSegments()[s.TopologyKey]; named && id != s.NodeID {
		return placement{}, nil
	}
	named := func(prefix string) bool {
		for key := range t.GetSegments() {
			if strings.HasPrefix(key, s.Driver+"/"+prefix) && key != s.TopologyKey {
				return true
			}
		}
		return false
	}
	byRegion, byNUMA := named("region"), named("numa")
	if !s.RegionTopology || !byRegion && !byNUMA {
		return placement{matches: true}, nil
	}
	regions, err := s.Volumes.Regions(ctx)
	if err != nil {
		return placement{}, err
	}
	var within []string
	for _, r := range regions {
		allowed := true
		for _, key := range s.keysOf(r) {
			isNUMA := strings.HasPrefix(key, s.Driver+"/numa")
			if (isNUMA && byNUMA || !isNUMA && byRegion) && t.GetSegments()[key] != "true" {
				allowed = false
			}
		}
		if allowed {
			within = append(within, r.Dev)
		}
	}
	if len(within) == len(regions) {
		within = nil
	} else if len(within) == 0 {
		return placement{}, nil
	}
	return placement{matches: true, within: within}, nil
}
