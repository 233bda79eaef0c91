// Command guest is process 1 of a lab guest: it brings the system up from the
// initramfs onto a writable overlay of the host's root, then runs what the
// host asks for. It is linked statically and needs nothing but the kernel.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a lab guest, not a command")
		os.Exit(2)
	}
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	unix.Sync()
	// When process 1 ends the kernel panics, so the machine is switched off.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	settings, err := readSettings()
	if err != nil {
		return err
	}
	if err := mountKernelFilesystems(); err != nil {
		return err
	}
	if len(settings.Shell) == 0 {
		// The kernel has shown that it lives (watch.go); from here on warnings will do.
		if err := os.WriteFile("/proc/sys/kernel/printk", []byte("4"), 0); err != nil {
			return err
		}
	}
	for _, m := range settings.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	if err := switchToHostRoot(settings); err != nil {
		return err
	}
	if err := upLoopback(); err != nil {
		return err
	}
	if err := os.Setenv("PATH", settings.Path); err != nil {
		return err
	}
	if settings.Udev {
		if err := startUdev(); err != nil {
			return err
		}
	}
	if len(settings.Shell) > 0 {
		return runShell(settings.Shell)
	}
	return serve()
}

func readSettings() (protocol.Settings, error) {
	var s protocol.Settings
	data, err := os.ReadFile(protocol.SettingsPath)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}

func runShell(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME=/root", "TERM=linux")
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	return cmd.Run()
}
