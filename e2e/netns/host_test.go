//go:build e2e

package netns

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// host is one machine that may run meshcrypt.
type host struct {
	*lab.Space
	mesh          *mesh
	outer, inside string   // outer is the first of its families
	outer6        string   // of a node that has it
	families      families // outside, of a node
	dir           string
	process       *lab.Process
	env           []string // beside the mesh's
	binary        string   // in place of the mesh's
}

// command is the program's command line on a host.
func (h *host) command(args ...string) []string {
	return append([]string{cmp.Or(h.binary, h.mesh.binary), "--data-dir", h.dir}, args...)
}

func (h *host) environment() []string { return append(slices.Clone(h.mesh.env), h.env...) }

// try runs a command to its end.
func (h *host) try(args ...string) lab.Result {
	h.mesh.Helper()
	return h.Try(h.environment(), h.command(args...)...)
}

// must runs a command that has to succeed and gives its stdout.
func (h *host) must(args ...string) string {
	h.mesh.Helper()
	r := h.try(args...)
	if r.Code != 0 {
		h.mesh.Fatalf("%s: meshcrypt %s: exit %d\n%s%s", h.Name, strings.Join(args, " "), r.Code, r.Out, r.Stderr)
	}
	return r.Out
}

// start runs a command in the background, in place of the one before.
func (h *host) start(args ...string) {
	h.mesh.Helper()
	h.process = h.Start(h.Name, h.environment(), h.command(args...)...)
}

// ask reads what a command says as JSON.
func ask[Out any](h *host, args ...string) (out Out, err error) {
	r := h.try(append(args, "-o", "json")...)
	// 6 is degraded: the answer is there.
	if r.Code != 0 && r.Code != control.CodeDegraded {
		return out, fmt.Errorf("%s: meshcrypt %s: exit %d: %s", h.Name, strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr))
	}
	return out, json.Unmarshal([]byte(r.Out), &out)
}

func (h *host) status() (control.Status, error) { return ask[control.Status](h, "status") }
