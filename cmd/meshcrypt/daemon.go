package main

import (
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// This file holds every call into package node: founding, joining, running
// a node and running a client. The rest of the command line asks a daemon.

// found makes this host the first of a new mesh.
func (a *app) found(config node.FoundConfig) (node.Founded, error) {
	dir, err := datadir.Open(a.dataDir)
	if err != nil {
		return node.Founded{}, err
	}
	defer dir.Close()
	return node.Found(dir, config, time.Now())
}

// register makes this host a member, once, by the name that it got.
func (a *app) register(ctx context.Context, config node.JoinConfig) (name string, err error) {
	dir, err := datadir.Open(a.dataDir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	err = node.Join(ctx, dir, config, time.Now)
	if errors.Is(err, pki.ErrAuthority) {
		return "", control.Errorf(control.CodeAuth, "the peer is not of the token's mesh: check its address, or create a token there", "%v", err)
	}
	if err != nil {
		return "", err
	}
	member, err := dir.Node()
	return member.Name, err
}

// serve runs the node of the data directory until ctx ends, or has it stand aside.
func (a *app) serve(ctx context.Context, log *slog.Logger, aside bool) error {
	if err := keepMemoryPrivate(); err != nil {
		return err
	}
	return a.ended(node.Run(ctx, node.RunConfig{DataDir: a.dataDir, Log: log, Version: buildVersion(), BeginAnew: a.beginAnew, Aside: aside}))
}

// ended is what the end of a daemon comes to. Who has left has done what was asked for, also
// if a part of it did not end: a supervisor need not try again.
func (a *app) ended(err error) error {
	if errors.Is(err, node.ErrLeft) {
		a.say("%s", oneLine(err))
		return nil
	}
	return inForeground(err)
}

// session runs one client session until ctx ends.
func (a *app) session(ctx context.Context, config node.ConnectConfig, logLevel string) error {
	log, err := a.logger(logLevel)
	if err != nil {
		return err
	}
	config.Log = log
	// Whoever read the log may end first, as behind a pipe at Ctrl-C; to die of that
	// would be no clean end.
	signal.Ignore(syscall.SIGPIPE)
	if err := keepMemoryPrivate(); err != nil {
		return err
	}
	return inForeground(node.Connect(ctx, config))
}

// membership reads what the data directory belongs to, if anything.
func (a *app) membership() (member datadir.Node, ok bool, err error) {
	dir, err := datadir.Open(a.dataDir)
	if err != nil {
		return datadir.Node{}, false, err
	}
	defer dir.Close()
	if !dir.HasNode() {
		return datadir.Node{}, false, nil
	}
	member, err = dir.Node()
	return member, err == nil, err
}

// checkToken refuses a token of another mesh than the one this host is in.
func checkToken(member datadir.Node, token pki.Token) error {
	hash, err := pki.Hash(member.CA)
	if err != nil || hash == token.CAHash {
		return err
	}
	return usage("meshcrypt leave gives this membership up; or choose another --data-dir",
		"the data directory belongs to another mesh (%s) than the token", member.Cluster)
}

// nodeFailures are what to do about the errors of package node.
func nodeFailures(newToken string) []knownFailure {
	return []knownFailure{
		{node.ErrDamagedLog, control.CodeFailed, "mv raft raft.away in the --data-dir, and the same command again; meshcrypt members on another host shows whether others vote"},
		{node.ErrStuck, control.CodeFailed, "meshcrypt run begins it anew, as after kill -9; its log says where it stood, which is worth a report"},
		{node.ErrRefused, control.CodeAuth, newToken},
		{node.ErrUnreachable, control.CodeUnreachable, "check that a member listens there and that TCP 6484 is open; meshcrypt members lists them"},
	}
}
