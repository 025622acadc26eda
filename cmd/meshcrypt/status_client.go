package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// clientStatus asks the running client of this host.
func (a *app) clientStatus(ctx context.Context, runDir string) (s control.ClientStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err = control.Local(filepath.Join(runDir, node.ClientSocket)).Call(ctx, control.OpStatus, control.Nothing{}, &s)
	withSchema(&s.Schema, "client-status")
	if control.CodeOf(err) == control.CodeUnreachable {
		if runs := node.ClientRunning(runDir); runs != nil {
			err = unanswered(runs)
		}
	}
	return s, err
}

// leftClosed is what the client of a run directory left closed; nil for nothing,
// where it still runs, and where this user may not look.
func leftClosed(runDir string) *control.ClientClosed {
	if node.ClientRunning(runDir) != nil {
		return nil
	}
	closed, err := host.ReadClosed(filepath.Join(runDir, node.ClientState))
	if errors.Is(err, host.ErrDamaged) {
		closed.Why, err = "its state file is damaged", nil
	}
	if err != nil || closed == nil {
		return nil
	}
	c := &control.ClientClosed{Since: closed.Since, Why: closed.Why, Prefixes: closed.Prefixes, Unseen: closed.Unseen}
	for _, by := range closed.By {
		c.By = append(c.By, string(by))
	}
	return c
}

// closedStatus is the status of a client that does not run and left this host closed.
func closedStatus(c control.ClientClosed) control.ClientStatus {
	s := control.ClientStatus{Health: "closed", Problems: []string{closedLine(c)}, Closed: &c}
	if isOpen(c) {
		s.Health = "open"
	}
	withSchema(&s.Schema, "client-status")
	return s
}

// isOpen says that nothing is left of what kept this host closed.
func isOpen(c control.ClientClosed) bool { return len(c.By) == 0 && !c.Unseen }

// closedLine names the reason and the next command.
func closedLine(c control.ClientClosed) string {
	if isOpen(c) {
		return "other software removed what kept this host closed: meshcrypt connect, or meshcrypt disconnect"
	}
	line := "closed"
	if !c.Since.IsZero() {
		line += " since " + c.Since.Local().Format(time.DateTime)
	}
	return line + " because " + cmp.Or(c.Why, "its client was killed or broke down") + ": meshcrypt disconnect"
}

func clientStatusTable(w io.Writer, s control.ClientStatus) {
	if s.Closed != nil {
		fmt.Fprintln(w, healthLine(s.Health, s.Problems))
		row(w, "Blocked", blockedCell(*s.Closed))
		return
	}
	fmt.Fprintln(w, healthLine(s.Health, s.Problems))
	row(w, "User", s.User)
	row(w, "Session", s.Session)
	row(w, "Leases", words(s.Leases))
	row(w, "Spreading", fmt.Sprintf("%s  inner MTU %d", s.Mode, s.MTU))
	row(w, "Arbiter", clientArbiterCell(s))
	for _, g := range s.Gateways {
		row(w, "Gateway", gatewayCell(s, g))
	}
	for _, l := range s.Local {
		row(w, "Local", localCell(l))
	}
	for _, slice := range s.Slices {
		row(w, "Slice", sliceCell(slice))
	}
	row(w, "Delivered", counts(s.Delivered))
	row(w, "Dropped", counts(s.Dropped))
	if len(s.PutBack) > 0 {
		row(w, "Put back", counts(s.PutBack)+" (other software had removed it)")
	}
}

// blockedCell says what is blocked, and by what.
func blockedCell(c control.ClientClosed) string {
	const removed = " alone, other software removed the "
	cell := cmp.Or(words(c.Prefixes), "nothing")
	switch by := strings.Join(c.By, " and "); {
	case c.Unseen:
		return cell + "  as far as this user may see, root sees the fence too"
	case by == "routes":
		return cell + "  by routes" + removed + "fence"
	case by == "fence":
		return cell + "  by the fence" + removed + "routes"
	case by != "":
		return cell + "  by " + by
	}
	return cell
}

func localCell(l control.ClientLocal) string {
	cell := fmt.Sprintf("%s on %s  ", l.Network, l.Device)
	switch l.Way {
	case control.WayOwn:
		return cell + "kept, it is of this host alone"
	case control.WayExcepted:
		return cell + "excepted from " + l.Pushed.String()
	}
	return cell + "hidden by " + l.Pushed.String() + ": " + l.Remedy
}

func clientArbiterCell(s control.ClientStatus) string {
	if !s.Control {
		if s.Parked {
			return "parked, last word " + age(s.WordAge) + " ago"
		}
		return "not connected, last word " + age(s.WordAge) + " ago"
	}
	return "connected, last word " + age(s.WordAge) + " ago"
}

func gatewayCell(s control.ClientStatus, g control.ClientGateway) string {
	cell := []string{g.Address.String()}
	if g.InUse {
		cell = append(cell, "in use by "+strings.ToUpper(g.Transport))
		if s.Source.IsValid() {
			cell = append(cell, "from "+s.Source.String())
		}
	}
	if g.Control {
		cell = append(cell, "leads to the arbiter")
	}
	return strings.Join(cell, "  ")
}

func sliceCell(s control.ClientSlice) string {
	cell := fmt.Sprintf("%d.%d  agent %s  %s", s.Number, s.Epoch, s.Agent, s.State)
	if s.Spare {
		cell += "  spare"
	}
	if s.Direct.IsValid() {
		cell += "  directly to " + s.Direct.String()
	}
	if s.RTT > 0 {
		cell += "  rtt " + s.RTT.Round(10*time.Microsecond).String()
	}
	if s.Heard >= 0 {
		cell += "  heard " + age(s.Heard) + " ago"
	}
	return cell + fmt.Sprintf("  in %s  out %s", byteCount(s.In), byteCount(s.Out))
}
