package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// identity is the identity service of one socket.
type identity struct {
	csi.UnimplementedIdentityServer
	*Server
	hasController bool // on this socket
}

// GetPluginInfo returns the name of the driver.
func (s identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.Driver, VendorVersion: s.Version}, nil
}

// GetPluginCapabilities returns the capabilities of the plugin.
func (s identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	var capabilities []*csi.PluginCapability
	if s.hasController {
		capabilities = append(capabilities, service(csi.PluginCapability_Service_CONTROLLER_SERVICE))
	}
	capabilities = append(capabilities, service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS))
	if s.expands() {
		capabilities = append(capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}})
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: capabilities}, nil
}

// Probe returns an error with the reason if volumes cannot be created here. On a controller-only
// socket it is not ready until the first preparation has finished, and the sidecars wait. On the
// others it is, because a node must be able to unmount.
func (s identity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, asPrecondition(err)
	}
	first, _ := s.preparing()
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(!first || !s.hasController || s.ControllerEndpoint == "")}, nil
}
