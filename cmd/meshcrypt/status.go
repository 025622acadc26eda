package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) statusCommand() *cobra.Command {
	var check string
	cmd := &cobra.Command{
		Use: "status", Short: "what this node knows of itself and the mesh", Args: cobra.NoArgs,
		Long: `Ask the running node how it and the mesh are, measured now.

The first line is the health. Exit code 6 when something is degraded.
--check prints nothing: live is 0 when the daemon answers, ready is 0 when it
also takes part (6 when not, 3 when there is no daemon).`,
		Example: "  meshcrypt status\n  meshcrypt status --check ready || echo not yet\n  meshcrypt status -o json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), check) },
	}
	cmd.Flags().StringVar(&check, "check", "", "only an exit code: live or ready")
	return cmd
}

func (a *app) status(ctx context.Context, check string) error {
	if check != "" && check != "live" && check != "ready" {
		return usage("--check live, or --check ready", "unknown --check %q", check)
	}
	var s control.Status
	err := a.call(ctx, control.OpStatus, control.Nothing{}, &s)
	switch {
	case check != "" && err != nil:
		return exit(control.CodeOf(err))
	case err != nil:
		return err
	case check == "live":
		return nil
	case check == "":
		withSchema(&s.Schema, "status")
		err = a.print(s, func(w io.Writer) { statusTable(w, s) })
	}
	if err == nil && s.Health != "ok" {
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
	fmt.Fprintln(w, healthLine(s))
	row(w, "Cluster", s.Cluster)
	row(w, "Node", fmt.Sprintf("%s  index %d  %s", s.Name, s.Index, s.Node.Short()))
	row(w, "Version", fmt.Sprintf("%s  up %s", s.Version, age(s.Uptime)))
	row(w, "Arbiter", arbiterCell(s))
	row(w, "Roles", words(s.Roles))
	row(w, "Certificate", age(s.CertLeft)+" left")
	row(w, "Carries", fmt.Sprintf("%d slices, %d gateway routes, parts %s", s.Slices, s.Routes, cmp.Or(words(s.Parts), "none")))
	row(w, "Plain path", s.Path)
	if s.Copied > 0 {
		row(w, "Stands by for", fmt.Sprintf("%d masqueraded flows", s.Copied))
	}
	row(w, "Delivered", counts(s.Delivered))
	row(w, "Dropped", counts(s.Dropped))
}

func healthLine(s control.Status) string {
	if s.Health == "ok" && len(s.Problems) == 0 {
		return "# Health: ok"
	}
	return "# Health: " + strings.ToUpper(s.Health) + ": " + strings.Join(s.Problems, "; ")
}

func arbiterCell(s control.Status) string {
	voter := "not a voter"
	if s.Voter {
		voter = "voter"
	}
	if s.Arbiter == "" {
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
