//go:build lab

package guests

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab"
)

// reboot cuts the power of a guest and boots another on the same DIMMs.
func reboot(t *testing.T) {
	dir, err := lab.TempDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := lab.Config{Dir: dir, DIMMs: lab.TwoEqualDIMMs()}

	m := boot(t, cfg)
	guestOutput(t, m, "sh", "-ec", `
pmemctl region init-labels --all --force
pmemctl volume create gone --type direct --size 64Mi --region region0
pmemctl volume create cache --type direct --size 64Mi --region region0
pmemctl vg init --percent 25 region0
pmemctl volume create db --type lvm --size 64Mi
pmemctl volume delete gone --force
ln -s "$(command -v pmemctl)" /sbin/mount.pmemctl
for v in db cache; do
	pmemctl volume mount $v /mnt/$v --persist
	head -c 8M /dev/urandom > /mnt/$v/file
	md5sum < /mnt/$v/file > /mnt/$v/sum
	sync -f /mnt/$v
done
pmemctl volume show cache -o json
`)
	fstab := guestOutput(t, m, "cat", "/etc/fstab")
	assert.Contains(t, fstab, "pmemctl:db /mnt/db pmemctl nofail 0 0\n")
	before := guestOutput(t, m, "sh", "-c", "pmemctl volume show cache -o json | jq -r '.volumes[0].namespace'")
	// Half made when the power goes: zeroing 3 GiB takes long enough.
	cut, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = m.Run(cut, lab.Command{Args: []string{"sh", "-ec", `
pmemctl volume create half --type direct --size 3Gi --fs none --region region1 &
until pmemctl volume list | grep -q creating; do kill -0 $!; done
echo b > /proc/sysrq-trigger; sleep 10`}})
	m.Kill()

	m = boot(t, cfg)
	// The root of the guest is new; of fstab, mount -a does what any init does.
	after := guestOutput(t, m, "sh", "-ec", `
ln -s "$(command -v pmemctl)" /sbin/mount.pmemctl
mkdir /mnt/db /mnt/cache
mkdir /db # mount(8) must not take it for the source
cd /
echo "$0" > /etc/fstab
pmemctl volume list
mount -a
mount -a
for v in db cache; do
	test "$(md5sum < /mnt/$v/file)" = "$(cat /mnt/$v/sum)"
	grep -q "/mnt/$v ext4 .*dax=always" /proc/mounts
done
pmemctl volume show cache -o json | jq -r '.volumes[0].namespace'
`, fstab)
	assert.NotContains(t, after, before, "the namespace has another name after the reboot, or this test shows nothing")
	assert.Regexp(t, `half +direct .*creating`, after, "what was half made is not shown as ready")
	t.Logf("cache was %safter the reboot:\n%s", before, after)

	out := guestOutput(t, m, "sh", "-ec", `
pmemctl volume create half --type direct --size 64Mi --region region1
pmemctl volume list
umount /mnt/db
pmemctl volume unmount db --persist
pmemctl volume unmount cache --persist
! grep pmemctl /etc/fstab
pmemctl volume delete half db cache --force
pmemctl vg remove pmemvgregion0
ndctl list -N
`)
	assert.Regexp(t, `half +direct .*ready`, out)
	assert.NotContains(t, out, `"dev":"namespace`, "nothing is left")
}

// hostileReboot: what a tenant wrote is there when the machine comes up again.
func hostileReboot(t *testing.T) {
	dir, err := lab.TempDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := lab.Config{Dir: dir, DIMMs: lab.TwoEqualDIMMs()}

	m := boot(t, cfg)
	guestOutput(t, m, "pmemctl", "region", "init-labels", "--all", "--force")
	runTests(t, m, "integration", []string{"TestHostileBeforeReboot"}, nil)
	m.Kill()

	m = boot(t, cfg)
	runTests(t, m, "integration", []string{"TestHostileAfterReboot"}, nil)
	out := guestOutput(t, m, "sh", "-ec", "pmemctl vg remove pmemvgregion0; ndctl list -N")
	assert.NotContains(t, out, `"dev":"namespace`, "nothing is left")
}

// rebootUnlabelled cuts the power of a guest whose PMEM cannot have labels. What is in RAM is gone
// afterwards, and its region can be given away again.
func rebootUnlabelled(t *testing.T) {
	dir, err := lab.TempDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := lab.Config{Dir: dir, DIMMs: lab.Unlabelled(1 << 30), MemmapMiB: 1024}

	m := boot(t, cfg)
	guestOutput(t, m, "sh", "-ec", `
pmemctl vg init region0 region1 region2 --whole --force
for r in 0 1 2; do
	pmemctl volume create v$r --type lvm --vg pmemvgregion$r --size 64Mi
	pmemctl volume mount v$r /mnt/v$r
	head -c 8M /dev/urandom > /mnt/v$r/file
	md5sum < /mnt/v$r/file > /mnt/v$r/sum
	sync -f /mnt/v$r
done
`)
	m.Kill()

	m = boot(t, cfg)
	out := guestOutput(t, m, "sh", "-ec", `
pmemctl volume list
for v in $(pmemctl volume list -o json | jq -r '.volumes[].name'); do
	pmemctl volume mount $v /mnt/$v
	test "$(md5sum < /mnt/$v/file)" = "$(cat /mnt/$v/sum)"
	grep -q "/mnt/$v ext4 .*dax=always" /proc/mounts
	pmemctl volume delete $v --unmount --force
	echo kept $v
done
ram=$(ndctl list -R -B | jq -r '.[] | select(.provider == "e820") | .regions[0].dev')
pmemctl vg init $ram --whole --force
pmemctl volume create again --type lvm --size 64Mi
for g in $(pmemctl vg list -o json | jq -r '.vgs[].name'); do
	pmemctl volume delete again --force || true
	pmemctl vg remove $g
done
pmemctl vg list -o json
`)
	assert.Equal(t, 2, strings.Count(out, "kept v"), "%s", out)
	assert.NotContains(t, out[strings.LastIndex(out, "kept v"):], `"name": "pmemvg`, "nothing is left")
}

// rebootCXL cuts the power of a guest with interleaved CXL memory. Its region is gone afterwards, and
// the devices may have other names; it is created again as it was, and the volumes are back.
func rebootCXL(t *testing.T) {
	dir, err := lab.TempDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := lab.Config{Dir: dir, CXL: lab.TwoCXLDevices()}

	m := boot(t, cfg)
	guestOutput(t, m, "sh", "-ec", `
cxl create-region -m -t pmem -d decoder0.0 -w 2 -g 1024 -s 512M $(for s in 0x5678 0x1234; do cxl list -M -s $s | jq -r '.[0].memdev'; done) >&2
pmemctl region save
pmemctl vg init --percent 50
pmemctl volume create db --type lvm --size 64Mi
pmemctl volume create fast --type direct --size 64Mi
for v in db fast; do
	pmemctl volume mount $v /mnt/$v
	head -c 8M /dev/urandom > /mnt/$v/file
	md5sum < /mnt/$v/file > /mnt/$v/sum
	sync -f /mnt/$v
done
`)
	saved := guestOutput(t, m, "cat", "/etc/pmemctl/cxl-regions.json")
	unit := guestOutput(t, m, "sed", "-n", "s/^ExecStart=//p", "/etc/systemd/system/pmemctl-regions.service")
	m.Kill()

	m = boot(t, cfg)
	// The root of the guest is new. Its init does what the unit says.
	out := guestOutput(t, m, "sh", "-ec", `
pmemctl region list && exit 1 || [ $? = 3 ]
mkdir -p /etc/pmemctl
echo "$0" > /etc/pmemctl/cxl-regions.json
`+unit+`
udevadm settle
pmemctl volume list
for v in db fast; do
	pmemctl volume mount $v /mnt/$v
	test "$(md5sum < /mnt/$v/file)" = "$(cat /mnt/$v/sum)"
	pmemctl volume delete $v --unmount --force
	echo kept $v
done
pmemctl vg remove pmemvgregion0
pmemctl namespace list -o json
`, saved)
	assert.Regexp(t, `region0 +0x5678,0x1234 +created`, out)
	assert.Equal(t, 2, strings.Count(out, "kept "), "%s", out)
	assert.NotContains(t, out, `"dev"`, "nothing is left")
}
