package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// clientStatus asks the running client of this host.
func (a *app) clientStatus(ctx context.Context, runDir string) (s control.ClientStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err = control.Local(filepath.Join(runDir, node.ClientSocket)).Call(ctx, control.OpStatus, control.Nothing{}, &s)
	withSchema(&s.Schema, "client-status")
	return s, err
}

func clientStatusTable(w io.Writer, s control.ClientStatus) {
	fmt.Fprintln(w, healthLine(s.Health, s.Problems))
	row(w, "User", s.User)
	row(w, "Session", s.Session)
	row(w, "Leases", words(s.Leases))
	row(w, "Spreading", fmt.Sprintf("%s  inner MTU %d", s.Mode, s.MTU))
	row(w, "Arbiter", clientArbiterCell(s))
	for _, g := range s.Gateways {
		row(w, "Gateway", gatewayCell(s, g))
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

func clientArbiterCell(s control.ClientStatus) string {
	if !s.Control {
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
