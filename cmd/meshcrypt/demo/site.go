package demo

import (
	"fmt"
	"os/exec"
)

// site is where a demo plays: how processes are started there, and what each is
// told of its surroundings.
type site interface {
	// start starts a process at a host.
	start(host string, cmd *exec.Cmd) error
	// peer is where a node is joined.
	peer() string
	// place are the flags of a node, mesh those of init besides.
	place(i int) []string
	mesh() []string
	// connect are the flags of the client.
	connect() []string
	// web is where the web server listens.
	web() string
	// proxy is how programs of the client's host enter the tunnel; "" is by
	// that host's routes.
	proxy() string
	// spares reports whether flows would die with the egress, so that it is not
	// the one that is killed.
	spares() bool
	// shows says what a verdict here stands for, and what not.
	shows() (does, doesNot string)
	// client is what a user at the client's host is told.
	client() string
}

func (n *network) peer() string { return outerAddress(0).String() }

func (n *network) place(i int) []string {
	return []string{"--listen", fmt.Sprintf("0.0.0.0:%d", meshPort), "--advertise", outerAddress(i).String(),
		"--inside-if", insidePort, "--inside", insideAddr(i).String()}
}

func (n *network) mesh() []string {
	return []string{"--pool", poolText, "--push", insideText, "--inside-address", movingText}
}

func (n *network) connect() []string             { return nil }
func (n *network) web() string                   { return webText + ":80" }
func (n *network) proxy() string                 { return "" }
func (n *network) spares() bool                  { return false }
func (n *network) shows() (does, doesNot string) { return "", "" }

func (n *network) client() string {
	return "a shell in the client's namespace; http://" + webText + " is behind the mesh"
}
