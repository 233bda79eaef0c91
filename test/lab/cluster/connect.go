package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// dialer connects to an address as it is in the cluster, such as 10.0.2.15:10250.
type dialer func(ctx context.Context, address string) (net.Conn, error)

// serveConnect answers HTTP CONNECT on a unix socket: this is how the API server gets
// to a kubelet, for logs and exec, since no address of a guest is reachable.
func serveConnect(path string, dial dialer) (net.Listener, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go connect(conn, dial)
		}
	}()
	return listener, nil
}

func connect(client net.Conn, dial dialer) {
	defer client.Close()
	in := bufio.NewReader(client)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	node, err := dial(context.Background(), req.Host)
	if req.Method != http.MethodConnect || err != nil {
		fmt.Fprintf(client, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer node.Close()
	fmt.Fprintf(client, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{}, 2)
	pipe := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pipe(node, in)
	go pipe(client, node)
	<-done
}
