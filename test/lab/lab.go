// Package lab boots a QEMU guest with emulated NVDIMMs and runs commands in
// it. The guest's root is a writable overlay over the host's own root, so every
// tool installed on the host, and every binary built there, is in the guest at
// the same path; nothing the guest writes reaches the host, except through the
// DIMM files.
//
//	m, err := lab.Boot(ctx, lab.Config{Dir: dir, DIMMs: lab.TwoEqualDIMMs()})
//	err = m.Run(ctx, lab.Command{Args: []string{"ndctl", "list", "-R"}, Stdout: os.Stdout})
//	m.Kill()                        // a power cut
//	m, err = lab.Boot(ctx, config)  // the same DIMM files: a reboot
//	m.PowerOff(ctx)
//
// The host must have QEMU and apt-get; the kernel is Debian's own, taken from
// its package without installing it.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

const mib = 1 << 20

// DIMM is one emulated NVDIMM; QEMU makes each of them a region of its own.
type DIMM struct {
	// Size in bytes without the label area. A size that is not a multiple of
	// 16 MiB gives a misaligned region.
	Size int64
	// LabelSize in bytes; 0 gives a DIMM that cannot hold labels.
	LabelSize int64
	// Virtio makes it virtio-pmem, which is on no DIMM.
	Virtio bool
}

// Config describes a guest.
type Config struct {
	// Dir holds the DIMM files (dimm0, dimm1, …), which are kept, and the
	// guest's sockets. It must exist.
	Dir string
	// DIMMs in the order of their regions. Files that exist are used as they are.
	DIMMs []DIMM
	// MemoryMiB of the guest besides the DIMMs; 0 is 3072.
	MemoryMiB int
	// MemmapMiB, when not 0, is memory that the kernel's command line declares as PMEM.
	MemmapMiB int
	// CXL are memory devices, each at a root port of its own.
	CXL []CXLDevice
	// OneCPU gives the guest one processor. It is half as fast, and then nothing that
	// the kernel does can meet the fault of QEMU that kernelParameters avoids.
	OneCPU bool
	// Hostname of the guest; "" is pmemlab.
	Hostname string
	// Network, when not 0, gives the guest a network card, 10.0.Network.15, which
	// reaches this machine's 127.0.0.1 as 10.0.Network.2, and what this machine reaches.
	Network int
	// Forward are ports of this machine's 127.0.0.1 that lead to the same in the guest.
	Forward []int
	// TrimAfter, when not 0, gives the memory of zeros on the DIMMs back whenever they
	// take so many bytes more: for DIMMs that together are larger than this machine's
	// memory.
	TrimAfter int64
	// NoUdev leaves systemd-udevd out, as in a container.
	NoUdev bool
	// NoPMEMModules leaves out the modules of libnvdimm.
	NoPMEMModules bool
	// NFITTest adds the kernel's emulated bus nfit_test.0: interleaved regions,
	// DIMM health, media errors. See nfit-test.sh.
	NFITTest bool
	// Shell runs a command on the console of the terminal in place of the
	// agent; Boot then returns when it has ended.
	Shell []string
	// Path goes in front of the PATH of every command.
	Path string
	// Console takes what the kernel prints; nil keeps the end of it for errors.
	Console io.Writer
}

func (c Config) dimmFile(i int) string { return filepath.Join(c.Dir, "dimm"+strconv.Itoa(i)) }

// TwoEqualDIMMs are two regions of 4 GiB each, the usual guest.
func TwoEqualDIMMs() []DIMM { return LabelledDIMMs(2, 4096*mib) }

// LabelledDIMMs are regions of size bytes each, which can be divided.
func LabelledDIMMs(count int, size int64) []DIMM {
	return slices.Repeat([]DIMM{{Size: size, LabelSize: 2 * mib}}, count)
}

// Unlabelled are the kinds of PMEM that cannot have labels, each of size bytes: a DIMM
// without a label area, and virtio-pmem. Config.MemmapMiB is the third.
func Unlabelled(size int64) []DIMM { return []DIMM{{Size: size}, {Size: size, Virtio: true}} }

// CXLDevice is a CXL memory device (Type 3) with persistent memory.
type CXLDevice struct {
	Size   int64 // bytes, a multiple of 256 MiB
	Serial uint64
	Bridge int // host bridge, from 0; QEMU 7.2 decodes one region below each
}

// TwoCXLDevices are equal but for their serial numbers, and in no region yet.
func TwoCXLDevices() []CXLDevice {
	return []CXLDevice{{Size: 1 << 30, Serial: 0x1234}, {Size: 1 << 30, Serial: 0x5678}}
}

// TwoCXLBridges are devices below two host bridges, so that each can be a region. They are small:
// QEMU calls a function for each access.
func TwoCXLBridges() []CXLDevice {
	return []CXLDevice{{Size: 256 * mib, Serial: 0x1234}, {Size: 256 * mib, Serial: 0x5678, Bridge: 1}}
}

// AllKindsOfDIMMs are two equal regions, region2 misaligned to 16 MiB, and
// region3 whose DIMM has no room for labels.
func AllKindsOfDIMMs() []DIMM {
	return append(TwoEqualDIMMs(), DIMM{Size: 1022 * mib, LabelSize: 2 * mib}, DIMM{Size: 1024 * mib})
}

// TempDir makes a directory for Config.Dir; the caller removes it. It is in memory
// where there is room: the host's writing back of a DIMM file on a disk slows the
// guest down by a factor of ten.
func TempDir() (string, error) {
	const room = 8 << 30
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err == nil && st.Bavail*uint64(st.Bsize) > room {
		return os.MkdirTemp("/dev/shm", "pmemlab.")
	}
	return os.MkdirTemp("", "pmemlab.")
}

// Machine is a running guest. Its methods are for one goroutine.
type Machine struct {
	qemu    *exec.Cmd
	exited  chan error
	conn    net.Conn
	enc     *json.Encoder
	dec     *json.Decoder
	console *tail
	trimmer *trimmer // nil without Config.TrimAfter
}

// Command is run in the guest as root and waited for.
type Command struct {
	Args           []string
	Env            []string // added to the guest's own
	Dir            string
	Stdin          []byte
	Stdout, Stderr io.Writer // nil discards
}

// ExitError is the unsuccessful end of a command: 128+n after signal n.
type ExitError struct {
	Args []string
	Code int
}

func (e *ExitError) Error() string { return fmt.Sprintf("%v: exit status %d", e.Args, e.Code) }

// Boot starts a guest and returns when it takes commands. One that hangs at boot is
// killed and booted again.
func Boot(ctx context.Context, cfg Config) (*Machine, error) {
	kernel, err := findKernel(ctx)
	if err != nil {
		return nil, err
	}
	// What builds the initramfs works in other directories.
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	initramfs := filepath.Join(cfg.Dir, "initramfs")
	if err := writeInitramfs(ctx, initramfs, kernel, cfg); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	socket := filepath.Join(cfg.Dir, "agent.sock")
	args, err := qemuArgs(cfg, kernel, initramfs, socket)
	if err != nil {
		return nil, err
	}
	qemu := append([]string{"qemu-system-x86_64"}, args...)
	if len(cfg.Shell) > 0 {
		cmd := exec.Command(qemu[0], qemu[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return nil, cmd.Run()
	}
	return bootWatched(ctx, cfg, qemu, socket, usualLimits)
}

// Run runs a command in the guest. When ctx ends first the guest is killed.
func (m *Machine) Run(ctx context.Context, c Command) error {
	stop := context.AfterFunc(ctx, m.Kill)
	defer stop()
	if err := m.enc.Encode(protocol.Request{Args: c.Args, Env: c.Env, Dir: c.Dir, Stdin: c.Stdin}); err != nil {
		return fmt.Errorf("%v: guest gone: %w", c.Args, err)
	}
	for {
		var reply protocol.Reply
		if err := m.dec.Decode(&reply); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("%v: %w", c.Args, ctx.Err())
			}
			return fmt.Errorf("%v: guest gone: %w\n%s", c.Args, err, m.console.text())
		}
		if err := copyOut(reply.Stdout, c.Stdout); err != nil {
			return err
		}
		if err := copyOut(reply.Stderr, c.Stderr); err != nil {
			return err
		}
		switch {
		case reply.Error != "":
			return fmt.Errorf("%v: %s", c.Args, reply.Error)
		case reply.Exited && reply.Code != 0:
			return &ExitError{Args: c.Args, Code: reply.Code}
		case reply.Exited:
			return nil
		}
	}
}

func copyOut(data []byte, w io.Writer) error {
	if len(data) == 0 || w == nil {
		return nil
	}
	_, err := w.Write(data)
	return err
}

// Kill ends the guest without warning, as a power cut does.
func (m *Machine) Kill() {
	_ = m.qemu.Process.Kill()
	m.exited <- <-m.exited
	m.trimmer.stop()
	if m.conn != nil {
		m.conn.Close()
	}
}

// PowerOff ends the guest after a sync, as an orderly shutdown does. It does
// not unmount.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.enc.Encode(protocol.Request{}); err != nil {
		return err
	}
	select {
	case err := <-m.exited:
		m.exited <- err
		m.trimmer.stop()
		m.conn.Close()
		return err
	case <-ctx.Done():
		m.Kill()
		return ctx.Err()
	}
}

// ConsoleTail is the end of what the guest's kernel printed.
func (m *Machine) ConsoleTail() string { return m.console.text() }

// QEMU translates code again for each address it is loaded at: without address
// randomisation every program starts twice as fast.
//
// QEMU 7.2 may go on for ever in a breakpoint that one processor wrote into the
// kernel's code while another ran it, so what makes the kernel change its code is
// done at boot, or not at all: the events that tests trace, and controllers of
// control groups.
//
// Of the processors that it has, "max" is a third slower than an old one: it clears
// memory byte by byte, keeps large registers, and has no counter that Linux takes for a
// clock. DAX writes caches back with clwb. A guest guards nobody's secrets.
const (
	processor        = "Nehalem,+clwb,+clflushopt,+rdtscp,+fsgsbase"
	kernelParameters = "norandmaps mitigations=off" +
		" trace_event=fs_dax:dax_pmd_fault_done,fs_dax:dax_insert_pfn_mkwrite trace_options=norecord-cmd"
	severalCPUs = " cgroup_disable=memory,cpuset"
)

func qemuArgs(cfg Config, k kernel, initramfs, socket string) ([]string, error) {
	memory := cfg.MemoryMiB
	if memory == 0 {
		memory = 3072
	}
	total := int64(cfg.MemmapMiB)
	for _, d := range cfg.CXL {
		total += d.Size / mib
	}
	for _, d := range cfg.DIMMs {
		total += (d.Size+d.LabelSize)/mib + 1024 // QEMU aligns each to 1 GiB
	}
	console := "console=ttyS0"
	if len(cfg.Shell) == 0 {
		console += firstWords
	}
	cpus, parameters := "2", kernelParameters+severalCPUs
	if cfg.OneCPU {
		cpus, parameters = "1", kernelParameters
	}
	if cfg.MemmapMiB > 0 {
		memory += cfg.MemmapMiB
		parameters += fmt.Sprintf(" memmap=%dM!4G", cfg.MemmapMiB) // more than 2.75 GiB lie above 4 GiB in part
	}
	machine := "q35,accel=tcg,nvdimm=on"
	if len(cfg.CXL) > 0 {
		machine += ",cxl=on"
	}
	args := []string{
		"-M", machine, "-cpu", processor, "-smp", cpus,
		"-m", fmt.Sprintf("%dM,slots=%d,maxmem=%dM", memory, len(cfg.DIMMs)+1, int64(memory)+total+1024),
		"-nodefaults", "-nographic", "-serial", "mon:stdio", "-no-reboot",
		"-kernel", k.image, "-initrd", initramfs,
		"-append", console + " panic=-1 oops=panic " + parameters,
		"-device", "virtio-rng-pci,bus=pcie.0",
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,bus=pcie.0,fsdev=root,mount_tag=" + protocol.ShareTag,
		"-device", "virtio-serial-pci,bus=pcie.0",
		"-chardev", "socket,id=agent,server=on,wait=off,path=" + socket,
		"-device", "virtserialport,chardev=agent,name=" + protocol.PortName,
	}
	if cfg.Network != 0 {
		net := fmt.Sprintf("user,id=net,restrict=off,net=10.0.%d.0/24", cfg.Network)
		for _, port := range cfg.Forward {
			net += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", port, port)
		}
		args = append(args, "-netdev", net, "-device", "virtio-net-pci,bus=pcie.0,netdev=net")
	}
	cxl, err := cfg.cxlArgs()
	if err != nil {
		return nil, err
	}
	args = append(args, cxl...)
	for i, d := range cfg.DIMMs {
		file := cfg.dimmFile(i)
		if err := makeSparse(file, d.Size+d.LabelSize); err != nil {
			return nil, err
		}
		device := fmt.Sprintf("nvdimm,id=nvdimm%d,memdev=mem%d", i, i)
		if d.Virtio {
			device = fmt.Sprintf("virtio-pmem-pci,bus=pcie.0,id=nvdimm%d,memdev=mem%d", i, i)
		}
		if d.LabelSize > 0 {
			device += fmt.Sprintf(",label-size=%d", d.LabelSize)
		}
		args = append(args,
			"-object", fmt.Sprintf("memory-backend-file,id=mem%d,share=on,mem-path=%s,size=%d", i, file, d.Size+d.LabelSize),
			"-device", device)
	}
	return args, nil
}

// cxlArgs are the arguments for the CXL devices and their host bridges. With a single root port
// Linux would take the bridge for one that needs no decoder, and QEMU 7.2 then loses what is
// written. Without a serial number the interleave set has no identity.
func (cfg Config) cxlArgs() ([]string, error) {
	if len(cfg.CXL) == 0 {
		return nil, nil
	}
	var args []string
	const ports = 2 // of each host bridge
	var windows []string
	for b := range slices.MaxFunc(cfg.CXL, func(x, y CXLDevice) int { return x.Bridge - y.Bridge }).Bridge + 1 {
		args = append(args,
			"-device", fmt.Sprintf("pxb-cxl,bus_nr=%d,bus=pcie.0,id=bridge%d", 12+b*64, b))
		windows = append(windows, fmt.Sprintf("cxl-fmw.%d.targets.0=bridge%d,cxl-fmw.%d.size=4G", b, b, b))
		for p := range ports {
			args = append(args, "-device", fmt.Sprintf("cxl-rp,port=%d,bus=bridge%d,id=rp%d,chassis=0,slot=%d", p, b, ports*b+p, 2+ports*b+p))
		}
	}
	args = append(args, "-M", strings.Join(windows, ","))
	used := map[int]int{} // ports, by bridge
	for i, d := range cfg.CXL {
		port := ports*d.Bridge + used[d.Bridge]
		used[d.Bridge]++
		memory, labels := filepath.Join(cfg.Dir, fmt.Sprintf("cxl%d", i)), filepath.Join(cfg.Dir, fmt.Sprintf("cxl%d.labels", i))
		for file, size := range map[string]int64{memory: d.Size, labels: mib} {
			if err := makeSparse(file, size); err != nil {
				return nil, err
			}
		}
		args = append(args,
			"-object", fmt.Sprintf("memory-backend-file,id=cxl%d,share=on,mem-path=%s,size=%d", i, memory, d.Size),
			"-object", fmt.Sprintf("memory-backend-file,id=lsa%d,share=on,mem-path=%s,size=%d", i, labels, mib),
			"-device", fmt.Sprintf("cxl-type3,bus=rp%d,memdev=cxl%d,lsa=lsa%d,id=memory%d,sn=%#x", port, i, i, i, d.Serial))
	}
	return args, nil
}

// makeSparse makes a file of that size, and leaves one that exists alone.
func makeSparse(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}
