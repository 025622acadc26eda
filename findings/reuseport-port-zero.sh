#!/bin/sh
# libp2p/go-reuseport v0.4.0: two UDP sockets of one program may get the same port when
# the kernel is asked to choose it.
#
# ListenPacket sets SO_REUSEADDR and SO_REUSEPORT before bind. With port 0 the kernel then
# counts a port that an own socket has as free. Seen on Linux 6: of 3,000 sockets that were
# opened on 127.0.0.1:0 and kept open, more than 20 shared their port with an earlier one,
# in each of five runs; what is sent to such a port reaches one of the two. With
# net.ListenPacket none did. So whoever wants a port of its own must not set the options.
#
# Needs Go and 3,100 file descriptors. Installs the pinned module into a folder that it
# removes. Exit 0: still so; exit 1: otherwise now.
set -eu
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
ulimit -n 3100 2>/dev/null || true
cd "$work"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"net"

	"github.com/libp2p/go-reuseport"
)

const sockets = 3000

// shared counts sockets whose port an earlier one has.
func shared(listen func(network, address string) (net.PacketConn, error)) (n int) {
	ports := make(map[int]bool)
	var open []net.PacketConn
	for range sockets {
		c, err := listen("udp4", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		open = append(open, c)
		port := c.LocalAddr().(*net.UDPAddr).Port
		if ports[port] {
			n++
		}
		ports[port] = true
	}
	for _, c := range open {
		c.Close()
	}
	return n
}

func main() {
	some := true
	for range 5 {
		n := shared(reuseport.ListenPacket)
		fmt.Println("of", sockets, "sockets of go-reuseport share a port:", n)
		some = some && n > 20
	}
	fmt.Println("more than 20 each time:", some)
	fmt.Println("of net.ListenPacket:", shared(net.ListenPacket))
}
GO
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
go mod init finding >/dev/null 2>&1
go get github.com/libp2p/go-reuseport@v0.4.0 >/dev/null 2>&1
go run . | tee seen
[ "$(tail -2 seen)" = "more than 20 each time: true
of net.ListenPacket: 0" ] || {
	echo "otherwise than seen"
	exit 1
}
