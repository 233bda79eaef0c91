//go:build lab

package kubernetes

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// servers run the examples of docs/guide/redis.md, in small: what Redis has answered is
// there after its pod is deleted and after a power cut; memcached's cache is there after
// its pod is deleted, and empty after a power cut.
func (s *suite) servers(t *testing.T) {
	const redis, memcached = "deployment/redis", "deployment/memcached"
	example := func(name string, pairs ...string) {
		data, err := os.ReadFile(root + "/deploy/examples/" + name)
		require.NoError(t, err)
		s.apply(t, string(data), append(pairs, "storage: 60Gi", "storage: 96Mi")...)
	}
	example("redis.yaml", "maxmemory 20gb", "maxmemory 32mb", "memory: 24Gi", "memory: 64Mi")
	example("memcached.yaml", "memory-limit=57344", "memory-limit=48", "memory: 2Gi", "memory: 64Mi")
	for _, server := range []string{redis, memcached} {
		s.kubectl(t, "rollout", "status", server, "--timeout="+patience.String())
		assert.Regexp(t, `(?m)^/dev/pmem\S+ /mnt/pmem ext4 rw,.*dax=always`, s.exec(t, server, "cat /proc/mounts"))
	}

	answered := s.exec(t, redis, "redis-cli -r 300 incr counter | tail -n 1")
	require.Equal(t, "300", answered)
	const entries = 200
	var set, get, want strings.Builder
	for i := range entries {
		fmt.Fprintf(&set, "set entry%d 0 0 4\r\n%04d\r\n", i, i)
		fmt.Fprintf(&get, "get entry%d\r\n", i)
		fmt.Fprintf(&want, "VALUE entry%d 0 4\n%04d\nEND\n", i, i)
	}
	require.Equal(t, entries, strings.Count(s.memcached(t, set.String()), "STORED"))
	require.Equal(t, want.String(), s.memcached(t, get.String()))

	restarted := t.Run("the pods are deleted", func(t *testing.T) {
		s.kubectl(t, "delete", "pods", "-l", "app in (redis, memcached)")
		for _, server := range []string{redis, memcached} {
			s.kubectl(t, "rollout", "status", server, "--timeout="+patience.String())
		}
		assert.Equal(t, "300", s.exec(t, redis, "redis-cli get counter"))
		assert.Equal(t, want.String(), s.memcached(t, get.String()))
		t.Log(s.exec(t, redis, "cat /proc/mounts"), s.kubectl(t, "logs", memcached), s.kubectl(t, "get", "pods", "-o", "name"))
	})
	if !restarted {
		return
	}
	cut := t.Run("the node loses power", func(t *testing.T) {
		answered := s.exec(t, redis, "redis-cli -r 200 incr counter | tail -n 1")
		s.Node("node0").Kill()
		require.Equal(t, "500", answered)
		require.NoError(t, s.Node("node0").Boot(t.Context()))
		eventually(t, patience, func(t testingT) string {
			if counter := s.exec(t, redis, "redis-cli get counter"); counter != "500" {
				return "the counter is " + counter
			}
			return ""
		})
		// It ended without a word: what is in the file is not used.
		eventually(t, patience, func(t testingT) string {
			if out := s.memcached(t, get.String()); out != strings.Repeat("END\n", entries) {
				return out
			}
			return ""
		})
		assert.Equal(t, "STORED\nVALUE new 0 1\n1\nEND\n", s.memcached(t, "set new 0 0 1\r\n1\r\nget new\r\n"))
	})
	if !cut {
		return
	}

	s.kubectl(t, "delete", redis, memcached, "service/redis", "service/memcached", "pvc/redis", "pvc/memcached")
	eventually(t, patience, func(t testingT) string {
		left := s.kubectl(t, "get", "pv", "-o", `jsonpath={range .items[*]}{.spec.claimRef.name} {end}`)
		if strings.Contains(left, "redis") || strings.Contains(left, "memcached") {
			return left
		}
		return ""
	})
	s.running(t, "both") // it went through the power cut as well
}

// exec runs a shell command in a pod of a Deployment.
func (s *suite) exec(t testingT, deployment, command string) string {
	t.Helper()
	return s.kubectl(t, "exec", deployment, "--", "sh", "-c", command)
}

// memcached sends commands to it, in its pod, and returns the lines of its answers.
func (s *suite) memcached(t testingT, commands string) string {
	t.Helper()
	out, err := s.Kubectl(t.Context(), strings.NewReader(commands+"quit\r\n"), "exec", "-i", "deployment/memcached", "--", "nc", "127.0.0.1", "11211")
	require.NoError(t, err)
	return strings.ReplaceAll(out, "\r\n", "\n")
}
