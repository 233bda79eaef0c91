package csi

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
)

// Metrics counts the calls.
type Metrics struct {
	registry *prometheus.Registry
	duration *prometheus.HistogramVec
}

// NewMetrics creates the metrics of a server, which also serves others.
func NewMetrics(others ...prometheus.Collector) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pmemctl_csi_operation_duration_seconds", Help: "Duration of CSI calls, by method and gRPC code.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "code"}),
	}
	m.registry.MustRegister(append(others, m.duration, collectors.NewGoCollector())...)
	return m
}

func (m *Metrics) called(method string, code codes.Code, took time.Duration) {
	if m != nil {
		m.duration.WithLabelValues(method, code.String()).Observe(took.Seconds())
	}
}

// MetricsConfig says where metrics are served, and to whom.
type MetricsConfig struct {
	Address string
	// TokenFile contains the token required to read /metrics ("Authorization: Bearer"); ""
	// requires none. It is read for each request, because a Secret may change.
	TokenFile string
}

// maxScrapes is the maximum number of requests waiting for the host.
const maxScrapes = 16

// ServeMetrics serves /metrics, /healthz (like Probe) and /livez over HTTP until the context ends.
func (s *Server) ServeMetrics(ctx context.Context, c MetricsConfig) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", withToken(c.TokenFile, promhttp.HandlerFor(s.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})))
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/livez", s.livez)
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return err
	}
	server := httpServer(mux)
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// httpServer returns a server whose timeouts keep slow clients from holding connections.
func httpServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
}

// withToken requires the token in a file. If the file is empty or missing, all requests are
// refused.
func withToken(file string, handler http.Handler) http.Handler {
	if file == "" {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(file)
		token := strings.TrimSpace(string(data))
		if err != nil || token == "" {
			http.Error(w, "the file of --metrics-token-file contains no token", http.StatusServiceUnavailable)
			return
		}
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token is required", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
