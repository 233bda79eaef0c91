// Package protocol is what the lab's host side and its guest say to each
// other: the boot settings that travel in the initramfs, and the commands that
// travel over a virtio serial port as a stream of JSON values.
package protocol

// SettingsPath is where the guest's init finds its Settings.
const SettingsPath = "/lab.json"

// PortName is the name of the virtio serial port of the agent.
const PortName = "pmemlab.agent"

// ShareTag names the 9p share that holds the host's root file system.
const ShareTag = "hostroot"

// Settings tell the guest's init how to bring the guest up.
type Settings struct {
	// Modules are paths in the initramfs, in the order to load them.
	Modules []string
	// ModuleTree is the host directory that holds lib/modules/VERSION.
	ModuleTree string
	// Udev starts systemd-udevd.
	Udev bool
	// Hostname of the guest.
	Hostname string
	// Shell is run on the console in place of the agent.
	Shell []string
	// Path is the PATH of every command.
	Path string
}

// Request asks the agent to run one command and to wait for it.
type Request struct {
	Args  []string
	Env   []string
	Dir   string
	Stdin []byte
}

// Reply carries a piece of output, or the end of a command.
type Reply struct {
	// Ready is sent once, when the guest can take commands.
	Ready  bool   `json:",omitempty"`
	Stdout []byte `json:",omitempty"`
	Stderr []byte `json:",omitempty"`
	// Exited is sent once for each request, after all of its output.
	Exited bool `json:",omitempty"`
	// Code is the exit status; 128+n after signal n.
	Code int `json:",omitempty"`
	// Error says why the command could not be started.
	Error string `json:",omitempty"`
}
