package main

import (
	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// asideFlag has the node stand aside from the start; see node.RunConfig.
const asideFlag = "aside"

func (a *app) runCommand() *cobra.Command {
	var logLevel string
	var aside bool
	cmd := &cobra.Command{
		Use: "run", Short: "run this host's node until it is stopped", Args: cobra.NoArgs,
		Long: `Run the node of the data directory, in the foreground, until SIGTERM or Ctrl-C.

Sessions outlive a stop: other members take over what this node carried.
A killed node leaves blackhole routes for the pool behind, so that nothing
meant for a client leaves in clear; the next run or leave removes them.`,
		Example: "  sudo meshcrypt run\n  sudo meshcrypt run --data-dir /srv/mesh --log-level debug",
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger(logLevel)
			if err != nil {
				return err
			}
			_, ok, err := a.membership()
			if err == nil && !ok {
				err = usage("meshcrypt init founds a mesh, meshcrypt join <peer> enters one",
					"%s holds no node", a.dataDir)
			}
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), log, aside)
		},
	}
	logFlag(cmd.Flags(), &logLevel)
	cmd.Flags().BoolVar(&aside, asideFlag, false, "another host runs with this node's key")
	_ = cmd.Flags().MarkHidden(asideFlag) // a daemon's word to its own next image
	return cmd
}

func (a *app) leaveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "give up this host's membership", Args: cobra.NoArgs,
		Long: `Leave the mesh for good: the running node hands its roles on, is removed from
the registry, puts the host's own settings back and forgets its keys.`,
		Example: "  sudo meshcrypt leave",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.callWithin(cmd.Context(), LeaveTimeout, control.OpLeave, control.Nothing{}, nil); err != nil {
				return err
			}
			a.say("This host has left the mesh.")
			return nil
		},
	}
}

func (a *app) drainCommand(undo bool) *cobra.Command {
	verb, short, done := "drain", "move all work off a node, losing nothing", "Drained."
	if undo {
		verb, short, done = "undrain", "give a drained node work again", "Takes work again."
	}
	return &cobra.Command{
		Use: verb + " [NODE]", Short: short, Args: cobra.MaximumNArgs(1),
		Long:    short + ".\n\nWithout a name it is this host's node.",
		Example: "  meshcrypt " + verb + "\n  meshcrypt " + verb + " b",
		RunE: func(cmd *cobra.Command, args []string) error {
			request := control.DrainRequest{Undo: undo}
			if len(args) > 0 {
				request.Node = args[0]
			}
			if err := a.callWithin(cmd.Context(), LeaveTimeout, control.OpDrain, request, nil); err != nil {
				return err
			}
			a.say("%s", done)
			return nil
		},
	}
}
