package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// openOperator serves the operator's API on the local socket, and to other
// members on the TLS port: a node that is not the arbiter passes an operation
// on to it.
func (n *Node) openOperator() (closeAll func(), err error) {
	path := n.dir.Path(datadir.SocketName)
	local, err := listenSocket(path)
	if err != nil {
		return nil, err
	}
	check := func(raw [][]byte) error {
		_, err := n.trust.Member(raw, func(id identity.NodeID) bool { return n.members.find(id).Index != 0 })
		return err
	}
	stop := serveSocket(n.reserve.Listener(local), path, n.operations())
	remote := n.port.Listener(port.ALPNOperator, pki.Server(port.ALPNOperator, n.trust.ArbiterCertificate, check))
	fromMembers := &http.Server{Handler: control.Handler(n.arbiterOperations(), n.callerOf), ReadHeaderTimeout: OperatorWait}
	var served sync.WaitGroup
	served.Go(func() { _ = fromMembers.Serve(remote) }) // ends by Close
	return func() {
		stop()
		_ = fromMembers.Close()
		served.Wait()
	}, nil
}

// serveSocket offers operations to whoever can open the local socket.
func serveSocket(local net.Listener, path string, operations map[string]control.Operation) (stop func()) {
	caller := func(*http.Request) control.Caller { return control.CallerLocal }
	server := &http.Server{Handler: control.Handler(operations, caller), ReadHeaderTimeout: OperatorWait}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(local) }) // ends by Close
	return func() {
		// Whoever asked this node to leave is owed an answer.
		grace, cancel := context.WithTimeout(context.Background(), GoodbyeWithin)
		defer cancel()
		_ = errors.Join(server.Shutdown(grace), server.Close(), os.Remove(path))
		served.Wait()
	}
}

// listenSocket opens a socket for its owner alone, over a dead one if need be.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	mask := syscall.Umask(0o177)
	defer syscall.Umask(mask)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	return listener, nil
}

// callerOf tells a voter from another member.
func (n *Node) callerOf(r *http.Request) control.Caller {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return control.CallerNode
	}
	peer, err := pki.VerifyNodeKey([][]byte{r.TLS.PeerCertificates[0].Raw}, n.trust.CA, n.trust.Cluster)
	if err == nil && n.inElectorate(peer.Node) {
		return control.CallerVoter
	}
	return control.CallerNode
}

// operations are what the local socket offers: this node's own, and those of
// the arbiter, which are passed on when it is another node.
func (n *Node) operations() map[string]control.Operation {
	all := map[string]control.Operation{
		control.OpStatus: {Look: true, Do: control.Handle(n.status)},
		control.OpLeave:  {Do: control.Handle(n.askLeave)},
	}
	for name, operation := range n.arbiterOperations() {
		all[name] = control.Operation{Look: operation.Look, Do: n.orPassOn(name, operation)}
	}
	all[control.OpDrain] = control.Operation{Do: control.Handle(n.drainAndWait)}
	return all
}

// orPassOn does an operation here if this node leads, and at the arbiter otherwise.
func (n *Node) orPassOn(name string, operation control.Operation) func(*http.Request, control.Caller, json.RawMessage) (any, error) {
	return func(r *http.Request, from control.Caller, body json.RawMessage) (any, error) {
		if store := n.store.Load(); store != nil {
			if id, ok := store.Leader(); ok && id == n.trust.Key.ID() {
				return operation.Do(r, from, body)
			}
		}
		client, err := n.atArbiter()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), OperatorWait)
		defer cancel()
		var result json.RawMessage
		err = client.Call(ctx, name, body, &result)
		return result, err
	}
}

// atArbiter asks the arbiter, which is another node.
func (n *Node) atArbiter() (*control.Client, error) {
	_, at := n.link.get()
	if !at.IsValid() {
		return nil, control.Errorf(control.CodeDegraded, "meshcrypt status", "no arbiter is known: the mesh has no quorum or cannot be reached")
	}
	var peer pki.Peer
	return control.NewClient(func(ctx context.Context) (net.Conn, error) {
		return n.dialOperator(ctx, at, n.trust.ToArbiter(port.ALPNOperator, &peer))
	}), nil
}

// dialOperator connects to the arbiter. Where that beats it is noticed at once if it is
// gone, though an answer may take its time.
func (n *Node) dialOperator(ctx context.Context, at netip.AddrPort, config *tls.Config) (net.Conn, error) {
	beats := n.link.beats()
	if beats {
		config = port.SayBeats(config)
	}
	conn, err := n.dialTLS(ctx, at, config)
	switch {
	case err != nil:
		return nil, err
	case beats:
		return port.Beating(conn), nil
	}
	return conn, nil
}

// status is what this node knows, measured now.
func (n *Node) status(r *http.Request, _ control.Nothing) (control.Status, error) {
	ctx, cancel := context.WithTimeout(r.Context(), OperatorWait)
	defer cancel()
	report, ok := n.agent.Report(ctx)
	if !ok {
		return control.Status{}, control.Errorf(control.CodeDegraded,
			fmt.Sprintf("meshcrypt status once more after %v; if it says the same then, restart the daemon: its log says more", EndWithin),
			"the control loop does not answer: the daemon is about to end, or hangs")
	}
	self := n.members.find(n.trust.Key.ID())
	s := control.Status{
		Schema: "meshcrypt.status/v1", Cluster: n.self.Cluster, Name: n.self.Name, Node: n.trust.Key.ID(),
		Index: n.self.Index, Version: n.config.Version, Uptime: time.Since(n.started),
		Fence: fmt.Sprintf("%d.%d", report.Incarnation, report.Term), WordAge: report.WordAge,
		Voter: self.Voter, Drained: self.Drained, Roles: roleNames(self.Is, self.Voter), CertLeft: n.trust.CertificateLeft(),
		Slices: report.Slices, Routes: report.Routes, Parts: report.Parts, Path: report.Path.String(),
		Copied: n.copier.Flows(), Userspace: n.self.Userspace, Flows: n.forward.flows(),
		Memory: memoryUse(),
	}
	if report.Heard {
		s.Arbiter = n.members.find(report.Arbiter).Name
	}
	s.Delivered, s.Dropped = n.forward.counts(n.agent.Rejects())
	for reason, count := range n.port.Stats().Dropped {
		addCount(s.Dropped, "tcp-"+reason.String(), count)
	}
	addCount(s.Dropped, "tcp-unproven", n.port.Stats().Unproven)
	forwarder := n.forward.gateway.Stats()
	s.Gateway = gatewayUse(forwarder)
	s.Pool = n.pool()
	s.Problems = n.problems(report, n.obstacles(), s.CertLeft)
	s.Problems = append(s.Problems, n.unfitReplicas(ctx)...)
	s.Problems = append(s.Problems, n.twoHosts(ctx)...)
	if report.Heard && report.Bare {
		s.Problems = append(s.Problems, n.clearInside())
	}
	if r, since, under := n.port.Siege(); under {
		s.Problems = append(s.Problems, besieged(r, since))
	}
	if err := fullParts(s.Pool); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	if said, tight := n.forward.room.tight(forwarder); tight {
		s.Problems = append(s.Problems, said)
	}
	s.Unjudged = report.Unjudged
	s.PutBack = n.putBack()
	s.Health = "ok"
	if len(s.Problems) > 0 {
		s.Health = "degraded"
	}
	return s, nil
}
