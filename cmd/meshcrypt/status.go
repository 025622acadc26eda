package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) statusCommand() *cobra.Command {
	var check, runDir string
	var client bool
	cmd := &cobra.Command{
		Use: "status", Short: "what this node, or this host's client, knows of itself and the mesh", Args: cobra.NoArgs,
		Long: `Ask the running node how it and the mesh are, measured now. Where no node
runs, or with --client, ask this host's client how its session is: by which
gateway and which transport (UDP, or TLS where UDP is blocked), and each slice.
Either says what it delivered, and what it dropped and why.

The first line is the health, and what is wrong; several problems have a line each. Exit code 6 when something is degraded.
--check prints nothing: live is 0 when the daemon or client answers, ready is
0 when it also takes part (6 when not, 3 when nobody answers).`,
		Example: "  meshcrypt status\n  meshcrypt status --check ready || echo not yet\n  meshcrypt status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.status(cmd.Context(), check, runDir, client)
		},
	}
	runDirFlag(cmd.Flags(), &runDir)
	cmd.Flags().BoolVar(&client, "client", false, "ask the client, also where a node runs")
	cmd.Flags().StringVar(&check, "check", "", "only an exit code: live or ready")
	return cmd
}

// status asks the daemon, or the client when there is none or it is meant.
func (a *app) status(ctx context.Context, check, runDir string, client bool) error {
	if check != "" && check != "live" && check != "ready" {
		return usage("--check live, or --check ready", "unknown --check %q", check)
	}
	var s control.Status
	var err error
	if !client {
		err = a.call(ctx, control.OpStatus, control.Nothing{}, &s)
		withSchema(&s.Schema, "status")
	}
	if client || control.CodeOf(err) == control.CodeUnreachable && !errors.Is(err, context.DeadlineExceeded) {
		c, missing := a.clientStatus(ctx, runDir)
		if closed := leftClosed(runDir); check == "" && control.CodeOf(missing) == control.CodeUnreachable && closed != nil {
			c, missing = closedStatus(*closed), nil
		}
		if client || missing == nil {
			return a.showStatus(check, missing, c.Health, c, func(w io.Writer) { clientStatusTable(w, c) })
		}
		err = a.nobody(runDir, missing)
	}
	return a.showStatus(check, err, s.Health, s, func(w io.Writer) { statusTable(w, s) })
}

// nobody says that neither a node nor a client answers, and how to start one.
func (a *app) nobody(runDir string, missing error) error {
	if node.ClientRunning(runDir) != nil {
		return missing
	}
	next := "start it with meshcrypt run, or a client with meshcrypt connect; or name its --data-dir or --run-dir"
	if os.Geteuid() != 0 {
		next = "sudo meshcrypt status, if root runs it; " + next
	}
	return control.Errorf(control.CodeUnreachable, next, "no daemon answers at %s, and no client in %s", a.socket(), runDir)
}

// showStatus prints an answer, or makes an exit code of it.
func (a *app) showStatus(check string, err error, health string, answer any, table func(io.Writer)) error {
	switch {
	case check != "" && err != nil:
		return exit(control.CodeOf(err))
	case err != nil:
		return err
	case check == "live":
		return nil
	case check == "":
		err = a.print(answer, table)
	}
	if err == nil && health != "ok" {
		err = exit(control.CodeDegraded)
	}
	return err
}

// withSchema names what an answer is, if the daemon did not.
func withSchema(schema *string, noun string) {
	if *schema == "" {
		*schema = "meshcrypt." + noun + "/v1"
	}
}

func statusTable(w io.Writer, s control.Status) {
	fmt.Fprintln(w, healthLine(s.Health, s.Problems))
	row(w, "Cluster", s.Cluster)
	row(w, "Node", fmt.Sprintf("%s  index %d  %s", s.Name, s.Index, s.Node.Short()))
	row(w, "Version", fmt.Sprintf("%s  up %s", s.Version, age(s.Uptime)))
	row(w, "Arbiter", arbiterCell(s))
	row(w, "Roles", words(s.Roles))
	if s.Drained {
		row(w, "Drained", "it gets no work until meshcrypt undrain")
	}
	row(w, "Certificate", age(s.CertLeft)+" left")
	row(w, "Carries", fmt.Sprintf("%d slices, %d gateway routes, parts %s", s.Slices, s.Routes, cmp.Or(words(s.Parts), "none")))
	if g := s.Gateway; g != nil {
		row(w, "Gateway", fmt.Sprintf("%d client rows on %d of %d ports, %d streams", g.Rows, g.Ports, g.MaxPorts, g.Streams))
	}
	row(w, "Plain path", s.Path)
	for _, r := range s.Pool {
		row(w, "Pool "+r.Prefix.String(), fmt.Sprintf("%d free, %d in sessions, %d held", r.Free, r.Open, r.Held))
	}
	if s.Userspace {
		row(w, "Without TUN", fmt.Sprintf("%d flows of clients end in this process, and would with it", s.Flows))
	}
	if s.Unjudged {
		row(w, "Clients reach", "what this host reaches, until the arbiter is upgraded: it does not say what they may")
	}
	if s.Copied > 0 {
		row(w, "Stands by for", fmt.Sprintf("%d masqueraded flows", s.Copied))
	}
	row(w, "Delivered", counts(s.Delivered))
	row(w, "Dropped", counts(s.Dropped))
	if len(s.PutBack) > 0 {
		row(w, "Put back", counts(s.PutBack)+" (other software had removed it)")
	}
}

// healthLine is the first line, and one more for each problem where there are several.
func healthLine(health string, problems []string) string {
	if health == "ok" && len(problems) == 0 {
		return "# Health: ok"
	}
	if len(problems) > 1 {
		return "# Health: " + strings.ToUpper(health) + ":\n#   " + strings.Join(problems, "\n#   ")
	}
	return "# Health: " + strings.ToUpper(health) + ": " + strings.Join(problems, "")
}

func arbiterCell(s control.Status) string {
	voter := "not a voter"
	if s.Voter {
		voter = "voter"
	}
	switch {
	case s.Arbiter == "" && s.WordAge > s.Uptime: // not since the daemon started
		return "none known, no word yet, this node is " + voter
	case s.Arbiter == "":
		return "none known, last word " + age(s.WordAge) + " ago, this node is " + voter
	}
	return fmt.Sprintf("%s  fence %s  last word %s ago, this node is %s", s.Arbiter, s.Fence, age(s.WordAge), voter)
}

// counts lists what is not zero, by name.
func counts(m map[string]uint64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] > 0 {
			list = append(list, fmt.Sprintf("%s %d", name, m[name]))
		}
	}
	return strings.Join(list, ", ")
}
