package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Errors of Join.
var (
	// ErrRefused is the arbiter's no; the text gives its reason.
	ErrRefused = errors.New("node: the mesh refused this host")
	// ErrUnreachable means that no peer led to an arbiter.
	ErrUnreachable = errors.New("node: no peer could be reached")
)

// JoinConfig is what join needs beside the place.
type JoinConfig struct {
	Place Place
	Peers []string // host:port of any members
	Token pki.Token
	Roles []string // fewer than the token allows; empty: all it allows
}

// Join registers this host once, through any peer, and writes its data
// directory. The keys are saved before they are registered, so a retry after
// a crash is the same node.
func Join(ctx context.Context, dir *datadir.Dir, config JoinConfig, wall func() time.Time) error {
	if dir.HasNode() {
		return fmt.Errorf("%w: this host is a member of a mesh already", datadir.ErrState)
	}
	j, err := newJoiner(dir, config, wall)
	if err != nil {
		return err
	}
	var errs []error
	for _, peer := range config.Peers {
		reply, ca, err := j.ask(ctx, peer)
		if err == nil {
			return j.save(reply, ca)
		}
		if errors.Is(err, ErrRefused) || errors.Is(err, pki.ErrAuthority) {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", peer, err))
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
}

// joiner is a host on its way into a mesh.
type joiner struct {
	dir    *datadir.Dir
	config JoinConfig
	wrap   []byte
	csr    []byte
	wall   func() time.Time
}

func newJoiner(dir *datadir.Dir, config JoinConfig, wall func() time.Time) (*joiner, error) {
	keys, err := dir.Keys()
	if errors.Is(err, datadir.ErrNoState) {
		if keys, err = newKeys(); err == nil {
			err = dir.SaveKeys(keys)
		}
	}
	if err != nil {
		return nil, err
	}
	key, wrap, err := openKeys(keys)
	if err != nil {
		return nil, err
	}
	return &joiner{dir: dir, config: config, wrap: wrap.Public(), csr: pki.MakeRequest(key), wall: wall}, nil
}

// ask joins through one peer. The CA is pinned by the token's hash before
// anything is sent, and the secret itself never is: only a proof of it.
func (j *joiner) ask(ctx context.Context, peer string) (*protocol.JoinReply, []byte, error) {
	var ca []byte
	check := func(raw [][]byte) error {
		_, err := pki.LearnArbiter(raw, j.config.Token.CAHash, j.wall())
		if err == nil {
			ca = append([]byte(nil), raw[1]...)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, JoinTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: pki.Client(port.ALPNJoin, nil, check)}
	conn, err := dialer.DialContext(ctx, "tcp", peer)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	reply, err := j.request(conn.(*tls.Conn))
	return reply, ca, err
}

func (j *joiner) request(conn *tls.Conn) (*protocol.JoinReply, error) {
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(pki.JoinExporterLabel, nil, pki.ExporterSize)
	if err != nil {
		return nil, err
	}
	p := j.config.Place
	messages := protocol.NewConn[protocol.Join](conn)
	if err := messages.Write(&protocol.Join{Request: &protocol.JoinRequest{
		Token: j.config.Token.ID, CSR: j.csr, Proof: j.config.Token.Proof(exporter, j.csr), WrapKey: j.wrap,
		Name: p.Name, Outer: p.Outer, Other: p.Other, Inside: p.Inside, Capacity: p.Capacity, Roles: j.config.Roles,
		Userspace: p.Userspace,
	}}); err != nil {
		return nil, err
	}
	return readJoinReply(messages)
}

func readJoinReply(messages *protocol.Conn[protocol.Join]) (*protocol.JoinReply, error) {
	m, err := messages.Read()
	switch {
	case err != nil:
		return nil, err
	case m.Refused != nil:
		return nil, fmt.Errorf("%w: %s", ErrRefused, m.Refused.Reason)
	case m.Reply == nil:
		return nil, fmt.Errorf("%w: neither a reply nor a refusal", protocol.ErrFrame)
	}
	return m.Reply, nil
}

// nameOf is what the registry calls a node: the name it asked for may have been taken.
func nameOf(nodes []protocol.NodeRow, index identity.Index, wanted string) string {
	for _, row := range nodes {
		if row.Index == index && row.Name != "" {
			return row.Name
		}
	}
	return wanted
}

// save writes the membership; from here on run and join just run.
func (j *joiner) save(reply *protocol.JoinReply, ca []byte) error {
	p := j.config.Place
	p.Name = nameOf(reply.Nodes, reply.Index, p.Name)
	err := j.dir.SaveCertificate(reply.Certificate)
	if err == nil {
		err = j.dir.SaveMembers(datadir.Members{Nodes: reply.Nodes, GossipKey: reply.GossipKey})
	}
	if err != nil {
		return err
	}
	return j.dir.SaveNode(datadir.Node{
		Cluster: reply.Cluster, CA: ca, Name: p.Name, Index: reply.Index, Listen: p.Listen, Outer: p.Outer, Other: p.Other,
		InsideIf: p.InsideIf, Inside: p.Inside, Capacity: p.Capacity, TUN: p.TUN, Pool: reply.Pool,
		Egress: reply.Egress, Userspace: p.Userspace,
	})
}

// newKeys makes what identifies a node from now on.
func newKeys() (datadir.Keys, error) {
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		return datadir.Keys{}, err
	}
	wrap, err := vault.NewRecipient(rand.Reader)
	return datadir.Keys{Identity: key.Seed(), Wrap: wrap.Seed()}, err
}

// openKeys restores the private keys from their stored form.
func openKeys(keys datadir.Keys) (key identity.Key, wrap vault.Recipient, err error) {
	if key, err = identity.KeyFromSeed(keys.Identity); err != nil {
		return key, wrap, err
	}
	wrap, err = vault.RecipientFromSeed(keys.Wrap)
	return key, wrap, err
}
