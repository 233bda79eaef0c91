package csi

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/metrics"
)

func TestMetricsToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	handler := withToken(file, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("figures")) }))
	ask := func(authorization string) int {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			assert.NotContains(t, w.Body.String(), "figures")
		}
		return w.Code
	}
	assert.Equal(t, http.StatusServiceUnavailable, ask("Bearer "), "no file")
	require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
	assert.Equal(t, http.StatusServiceUnavailable, ask("Bearer "), "an empty one")
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	assert.Equal(t, http.StatusOK, ask("Bearer secret"))
	for _, wrong := range []string{"", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Basic secret"} {
		assert.Equal(t, http.StatusUnauthorized, ask(wrong), wrong)
	}
	require.NoError(t, os.WriteFile(file, []byte("new"), 0o600))
	assert.Equal(t, http.StatusUnauthorized, ask("Bearer secret"), "the token has changed")
}

func TestSlowReadersAreCutOff(t *testing.T) {
	s := httpServer(http.NotFoundHandler())
	for what, d := range map[string]time.Duration{"read header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout} {
		assert.Positive(t, d, what)
	}
	assert.Greater(t, s.WriteTimeout, metrics.ScrapeTimeout, "a scrape that waits for the host is answered")
}
