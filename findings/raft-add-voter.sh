#!/bin/sh
# hashicorp/raft v1.8.0: AddVoter is committed by the quorum that there was before it.
#
# A cluster of one adds a voter at an address where nothing listens. Seen: the call
# returns no error within milliseconds; within two seconds the leader has stepped
# down, for its new quorum of two cannot be reached, and there is none afterwards.
# So whoever adds voters has to ask first whether they answer.
#
# Needs Go. Installs the pinned module into a folder that it removes. Exit 0: still
# so; exit 1: it behaves otherwise now.
set -eu
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/raft"
)

func main() {
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = "a", io.Discard
	store := raft.NewInmemStore()
	address, transport := raft.NewInmemTransport("")
	alone := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: address}}}
	must(raft.BootstrapCluster(conf, store, store, raft.NewInmemSnapshotStore(), transport, alone))
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), transport)
	must(err)
	for end := time.Now().Add(10 * time.Second); r.State() != raft.Leader; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			fail("a cluster of one elects nobody")
		}
	}
	begin := time.Now()
	err = r.AddVoter("b", "nothing-listens-here", 0, time.Second).Error()
	fmt.Printf("AddVoter of a server that nobody reaches: error %v after %v\n", err, time.Since(begin).Round(time.Millisecond))
	if err != nil {
		fail("it is refused now")
	}
	for begin = time.Now(); r.State() == raft.Leader; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			fail("the leader stays")
		}
	}
	fmt.Printf("the leader stepped down after %v\n", time.Since(begin).Round(100*time.Millisecond))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if r.State() == raft.Leader {
			fail("there is a leader again")
		}
	}
	fmt.Println("and nobody leads five seconds later")
}

func must(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Println("otherwise than seen:", why)
	os.Exit(1)
}
GO
export GOFLAGS=-mod=mod GOWORK=off
go mod init finding >/dev/null 2>&1
go get github.com/hashicorp/raft@v1.8.0 >/dev/null 2>&1
go run .
