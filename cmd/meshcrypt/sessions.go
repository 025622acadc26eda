package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) sessionsCommand() *cobra.Command {
	var ended bool
	cmd := &cobra.Command{
		Use: "sessions", Short: "list the clients' sessions", Args: cobra.NoArgs,
		Long: `List the sessions of the mesh. --ended lists those that ended within 24 hours,
with the reason. A client that is idle is "parked": it has no connection to the
arbiter, its agents hear it and call it when there is something for it, and its
traffic goes at once. One that is "away" is not heard of: its session is kept for
the headless time and a minute. BYTES is all that it moved, as its client or its
agents told the present arbiter. A client that was parked when that began has not:
until it comes its BYTES is what the present slices moved since their last new keys.`,
		Example: "  meshcrypt sessions\n  meshcrypt sessions --ended\n  meshcrypt sessions show 4f2a\n  meshcrypt sessions kick 4f2a --reason maintenance",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.sessions(cmd.Context(), ended) },
	}
	cmd.Flags().BoolVar(&ended, "ended", false, "sessions that ended within 24 hours")
	cmd.AddCommand(a.sessionShowCommand(), a.sessionKickCommand())
	return cmd
}

func (a *app) sessions(ctx context.Context, ended bool) error {
	var s control.Sessions
	if err := a.call(ctx, control.OpSessions, control.SessionsRequest{Ended: ended}, &s); err != nil {
		return err
	}
	withSchema(&s.Schema, "sessions")
	return a.print(s, func(w io.Writer) {
		row(w, "ID", "CLIENT", "LEASES", "STATE", "EGRESS", "SECOND", "MODE", "SLICES", "BYTES", "AGE")
		for _, one := range s.Sessions {
			row(w, one.ID, one.Client, words(one.Leases), stateCell(one), one.Egress, one.Second,
				one.Mode, len(one.Slices), byteCount(one.Bytes), age(one.Age))
		}
	})
}

func stateCell(s control.Session) string {
	switch {
	case s.Reason != "":
		return s.State + " (" + s.Reason + ")"
	case s.State == "active" && s.Parked:
		return "active (parked)"
	case s.State == "active" && !s.Connected:
		return "active (away)"
	default:
		return s.State
	}
}

func (a *app) sessionShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "one session and its slices", Args: cobra.ExactArgs(1),
		Long:    "Show one session with each of its slices: agent, keys' epoch, weight, bytes, share.\nID may be the beginning of one.",
		Example: "  meshcrypt sessions show 4f2a\n  meshcrypt sessions show 4f2a -o json",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.showSession(cmd.Context(), args[0]) },
	}
}

// sessionReply is one session as data.
type sessionReply struct {
	Schema string `json:"schema"`
	control.Session
}

func (a *app) showSession(ctx context.Context, id string) error {
	var s control.Sessions
	if err := a.call(ctx, control.OpSessions, control.SessionsRequest{ID: id}, &s); err != nil {
		return err
	}
	if len(s.Sessions) != 1 {
		return usage("meshcrypt sessions lists them", "%d sessions have an ID that begins with %s", len(s.Sessions), id)
	}
	one := s.Sessions[0]
	return a.print(sessionReply{"meshcrypt.session/v1", one}, func(w io.Writer) { sessionTable(w, one) })
}

func sessionTable(w io.Writer, s control.Session) {
	row(w, "Session", s.ID)
	row(w, "Client", s.Client)
	row(w, "Leases", words(s.Leases))
	row(w, "State", stateCell(s))
	row(w, "Egress", fmt.Sprintf("%s, then %s", s.Egress, s.Second))
	row(w, "Mode", modeCell(s))
	if s.Skew > 0 {
		row(w, "Paths", pathsCell(s))
	}
	row(w, "Cipher", s.Suite)
	row(w, "May reach", reachCell(s))
	row(w, "Moved", byteCount(s.Bytes)+" in "+age(s.Age))
	fmt.Fprintln(w)
	row(w, "SLICE", "EPOCH", "AGENT", "STATE", "WEIGHT", "SPI", "UP", "SHARE", "DOWN", "SHARE", "DELAY", "LOSS", "WAY")
	for _, sl := range s.Slices {
		row(w, sl.Number, sl.Epoch, sl.Agent, sl.State, sl.Weight, sl.SPI,
			byteCount(sl.In), percent(sl.Up), byteCount(sl.Out), percent(sl.Down), delayCell(sl.Delay), percent(sl.Loss), wayCell(sl))
	}
}

// reachCell is where a session may go, and how much was dropped that went
// elsewhere.
func reachCell(s control.Session) string {
	text := cmp.Or(words(s.Reach), "nothing")
	if s.NotAllowed > 0 {
		text += fmt.Sprintf(" (%d other packets dropped as not-allowed)", s.NotAllowed)
	}
	return text
}

// pathsCell is what the paths differ by at most, and what that means.
func pathsCell(s control.Session) string {
	text := fmt.Sprintf("differ by less than %d ms", s.Skew)
	if s.Calmed != "" {
		text += ": " + s.Calmed
	}
	return text
}

func delayCell(us uint32) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(us)/1000)
}

// wayCell is how the client reaches the agent, as far as it has said so.
func wayCell(s control.Slice) string {
	switch {
	case s.Delay == 0:
		return "-"
	case s.Direct:
		return "direct"
	}
	return "gateway"
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// modeCell is what the session was admitted with.
func modeCell(s control.Session) string {
	text := s.Mode + ", shares by capacity"
	if s.Shares == "equal" {
		text = s.Mode + ", equal shares"
	}
	if s.SprayUDP {
		text += ", UDP sprayed too"
	}
	return text
}

func (a *app) sessionKickCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "kick ID", Short: "end a session now", Args: cobra.ExactArgs(1),
		Long:    "End a session: its keys are dead within 5 s on every node that can be reached.\nThe client may open a new one; meshcrypt client revoke prevents that.",
		Example: "  meshcrypt sessions kick 4f2a --reason maintenance",
		RunE: func(cmd *cobra.Command, args []string) error {
			request := control.KickRequest{ID: args[0], Reason: reason}
			if err := a.call(cmd.Context(), control.OpKick, request, nil); err != nil {
				return err
			}
			a.say("Session %s is over.", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "ended by the operator", "what the client is told")
	return cmd
}
