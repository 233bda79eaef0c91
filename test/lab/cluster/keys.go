package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// keys are those of one cluster, made anew each time.
type keys struct {
	dir   string
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

func newKeys(dir string) (*keys, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k := &keys{dir: dir, caKey: key, ca: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}}
	return k, k.write("ca", k.ca, key)
}

// issue makes NAME.crt and NAME.key for an identity of Kubernetes: a user in a group,
// or a server with addresses.
func (k *keys) issue(name, user, group string, addresses ...net.IP) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	return k.write(name, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: user, Organization: []string{group}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: addresses, DNSNames: []string{"localhost", "kubernetes", "kubernetes.default.svc"},
	}, key)
}

func (k *keys) write(name string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	signed, err := x509.CreateCertificate(rand.Reader, cert, k.ca, &key.PublicKey, k.caKey)
	if err != nil {
		return err
	}
	if name == "ca" {
		if k.ca, err = x509.ParseCertificate(signed); err != nil {
			return err
		}
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: signed}, ".key": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(k.path(name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (k *keys) path(name string) string { return filepath.Join(k.dir, name) }

// kubeconfig makes NAME.kubeconfig with NAME's keys in it.
func (k *keys) kubeconfig(name, server string) error {
	return os.WriteFile(k.path(name+".kubeconfig"), fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: %[1]s}}]
clusters: [{name: lab, cluster: {server: %[2]s, certificate-authority: %[3]s}}]
users: [{name: %[1]s, user: {client-certificate: %[4]s, client-key: %[5]s}}]
`, name, server, k.path("ca.crt"), k.path(name+".crt"), k.path(name+".key")), 0o600)
}
