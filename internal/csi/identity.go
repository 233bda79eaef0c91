package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// identity is the identity service on one socket.
type identity struct {
	csi.UnimplementedIdentityServer
	*Server
	hasController bool // on this socket
}

// GetPluginInfo tells the driver's name.
func (s identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.Driver, VendorVersion: s.Version}, nil
}

// GetPluginCapabilities tells what the plugin as a whole can do.
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

// Probe reports whether volumes can be made here, and why not. On a socket for the
// controller alone, it is not ready before the first preparation has ended: sidecars wait
// then. On the others a node is to be able to unmount.
func (s identity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, asPrecondition(err)
	}
	first, _ := s.preparing()
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(!first || !s.hasController || s.ControllerEndpoint == "")}, nil
}
