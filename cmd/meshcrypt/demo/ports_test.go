package demo

import (
	"net"
	"sync"
	"testing"
)

// TestDemosAtOnceShareNoPorts: each holds what it found, though none has taken a port yet.
func TestDemosAtOnceShareNoPorts(t *testing.T) {
	var all [8]*oneHost
	var running sync.WaitGroup
	for i := range all {
		running.Go(func() {
			o, err := findOneHost(MaxNodes)
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = o
		})
	}
	running.Wait()
	taken := make(map[uint16]int)
	for i, o := range all {
		if o == nil {
			continue
		}
		defer o.claim.Close()
		for port := o.port; port < o.port+portsOfDemo; port++ {
			if other, ok := taken[port]; ok {
				t.Errorf("demos %d and %d have port %d", other, i, port)
			}
			taken[port] = i
		}
	}
}

// TestClaimIsGivenBack: by a demo that has ended, and by one that met somebody else's port.
func TestClaimIsGivenBack(t *testing.T) {
	const first = searchTo // where no other demo looks
	o, err := takeOneHost(first, MaxNodes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeOneHost(first, MaxNodes); err == nil {
		t.Error("two have one claim")
	}
	o.claim.Close()
	for what, at := range map[string]string{
		"the last node": net.JoinHostPort(nodeHere(MaxNodes-1).String(), portText(first+webOffset-1)),
		"the web":       o.web(),
		"the proxy":     o.proxyAt(),
	} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := takeOneHost(first, MaxNodes); err == nil {
			t.Errorf("%s: took a port that somebody has", what)
		}
		l.Close()
	}
	again, err := takeOneHost(first, MaxNodes)
	if err != nil {
		t.Fatalf("the claim was not given back: %v", err)
	}
	again.claim.Close()
}
