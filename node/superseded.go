package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// errSuperseded ends the parts of a node whose key another process has.
var errSuperseded = errors.New("node: another host runs with this node's key")

// superseded is told by the arbiter, by way of the agent.
func (n *Node) superseded() { n.overOne.Do(func() { close(n.over) }) }

// standAside is what is left of a node whose key was copied and runs elsewhere: it
// carries nothing, keeps out what is for the pool, and says why, until an operator
// decides which host is which. It does not end by itself, for a supervisor would start
// it again, and the two hosts would take the key from each other for ever.
func (n *Node) standAside(ctx context.Context) error {
	since := time.Now()
	path := n.dir.Path(datadir.SocketName)
	local, err := listenSocket(path)
	if err != nil {
		return errors.Join(errSuperseded, err)
	}
	n.config.Log.Error("another host runs with this node's key: this one carries nothing any more", "next", supersededNext)
	status := func(*http.Request, control.Nothing) (control.Status, error) {
		return control.Status{
			Schema: "meshcrypt.status/v1", Cluster: n.self.Cluster, Name: n.self.Name, Node: n.trust.Key.ID(),
			Index: n.self.Index, Version: n.config.Version, Uptime: time.Since(n.started), Userspace: n.self.Userspace,
			CertLeft: n.trust.CertificateLeft(),
			Health:   "degraded", Problems: []string{"this host carries nothing since " + since.Format(time.DateTime) +
				", for another host runs with its key, as after a machine or a data directory was copied: " + supersededNext},
		}, nil
	}
	leave := func(*http.Request, control.Nothing) (control.Nothing, error) {
		n.leave("its key runs on another host")
		return control.Nothing{}, nil
	}
	operations := n.operations()
	for name := range operations {
		operations[name] = control.Operation{Do: control.Handle(refuseAside)}
	}
	operations[control.OpStatus] = control.Operation{Look: true, Do: control.Handle(status)}
	operations[control.OpLeave] = control.Operation{Do: control.Handle(leave)}
	defer serveSocket(local, path, operations)()
	select {
	case <-ctx.Done():
		return nil
	case <-n.gone:
		return errors.Join(ErrLeft, host.Restore(n.dir.Path(datadir.HostFile)))
	}
}

// refuseAside is the answer of who stands aside to what others can be asked.
func refuseAside(*http.Request, json.RawMessage) (control.Nothing, error) {
	return control.Nothing{}, control.Errorf(control.CodeDegraded, "meshcrypt status",
		"this host stands aside, for another one runs with its key")
}

// giveBack opens this host, which is a member no more, where a part hangs that was to do so
// or was to end before. The TUN goes with the process.
func (n *Node) giveBack() error {
	err := n.afterwards("giving the host back", func() error { return n.forward.stack.close(n.hasLeft()) })
	if err != nil && !n.self.Userspace {
		err = fmt.Errorf("this host may be closed still, open it: %s: %w", openHost, err)
	}
	return err
}

// supersededNext is what an operator can do about it.
const supersededNext = "if this is the copy, meshcrypt leave (which leaves the other as it is) and join anew; " +
	"if the other is, stop it and restart this daemon"
