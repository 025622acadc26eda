package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// arbiterOperations are those that only the arbiter can answer: they read or
// change the registry.
func (n *Node) arbiterOperations() map[string]control.Operation {
	all := map[string]control.Operation{
		control.OpMembers:       {Look: true, Do: control.Handle(n.listMembers)},
		control.OpSessions:      {Look: true, Do: control.Handle(n.listSessions)},
		control.OpKick:          {Do: control.Handle(n.kick)},
		control.OpTokenCreate:   {Do: control.Handle(n.createToken)},
		control.OpTokenList:     {Do: control.Handle(n.listTokens)},
		control.OpTokenRevoke:   {Do: control.Handle(n.revokeToken)},
		control.OpClientPut:     {Do: control.Handle(n.putClient)},
		control.OpClientList:    {Look: true, Do: control.Handle(n.listClients)},
		control.OpClientEnable:  {Do: control.Handle(n.enableClient)},
		control.OpClientRevoke:  {Do: control.Handle(n.revokeClient)},
		control.OpClientProfile: {Look: true, Do: control.Handle(n.clientProfile)},
		control.OpCAShow:        {Look: true, Do: control.Handle(n.listAuthorities)},
		control.OpCAIssue:       {Do: control.Handle(n.issueCertificate)},
		control.OpCAImport:      {Do: control.Handle(n.importAuthority)},
		control.OpCARevoke:      {Do: control.Handle(n.revokeCertificate)},
		control.OpPolicyShow:    {Look: true, Do: control.Handle(n.showPolicy)},
		control.OpPolicySet:     {Do: control.Handle(n.setPolicy)},
		control.OpDrain:         {Do: control.Handle(n.drain)},
		control.OpRaftPeers:     {Look: true, Do: control.Handle(n.raftPeers)},
		control.OpRaftRemove:    {Do: control.Handle(n.removePeer)},
		control.OpRaftTransfer:  {Do: control.Handle(n.transferLeadership)},
		control.OpSnapshotSave:  {Do: control.Handle(n.saveSnapshot)},
		control.OpRefuse:        {Do: control.Handle(n.refuse)},
	}
	for name, operation := range all {
		all[name] = control.Operation{Look: operation.Look, Do: sayOver(operation.Do)}
	}
	return all
}

// sayOver tells an operator whose arbiter lost the lead meanwhile what to look at:
// what was asked for may have been committed.
func sayOver(do func(*http.Request, control.Caller, json.RawMessage) (any, error)) func(*http.Request, control.Caller, json.RawMessage) (any, error) {
	return func(r *http.Request, from control.Caller, body json.RawMessage) (any, error) {
		result, err := do(r, from, body)
		var chosen *control.Error
		if errors.Is(err, arbiter.ErrOver) && !errors.As(err, &chosen) {
			err = control.Errorf(control.CodeDegraded, "look whether it happened: meshcrypt members, meshcrypt sessions; if not, the same command again",
				"another node became arbiter meanwhile, and what was asked for may have happened (%v)", err)
		}
		return result, err
	}
}

// propose commits a command of an operator and turns a refusal into words.
func (n *Node) propose(ctx context.Context, command registry.Command) (registry.Result, error) {
	store := n.store.Load()
	if store == nil {
		return registry.Result{}, consensus.ErrNotLeader
	}
	rand.Read(command.ID[:])
	ctx, cancel := context.WithTimeout(ctx, OperatorWait)
	defer cancel()
	result, err := store.Propose(ctx, command)
	switch {
	case err != nil && n.diskSays() != "":
		return result, control.Errorf(control.CodeDegraded, "meshcrypt status; then run the same command again",
			"the disk of the arbiter, below %s (%v)", n.diskSays(), err)
	case err != nil:
		return result, uncommitted(err)
	case result.Code == registry.ErrNotFound.Code && lists(command) != "":
		return result, control.Errorf(control.CodeFailed, lists(command), "there is no %s", result.Detail)
	case result.Code != "":
		return result, control.Errorf(control.CodeFailed, "", "%s", result.Err())
	}
	return result, nil
}

// lists is the command that lists what another one names.
func lists(c registry.Command) string {
	switch {
	case c.RevokeClient != nil:
		return "meshcrypt client list"
	case c.RevokeToken != nil:
		return "meshcrypt token list"
	case c.RevokeAuthority != nil:
		return "meshcrypt ca show"
	}
	return ""
}

// uncommitted says what became of a change that the arbiter did not see committed.
func uncommitted(err error) error {
	switch {
	case errors.Is(err, consensus.ErrNotLeader):
		return control.Errorf(control.CodeDegraded, "run the same command again",
			"another node becomes arbiter just now, so nothing was done")
	case errors.Is(err, consensus.ErrOutcomeUnknown):
		return control.Errorf(control.CodeDegraded, "meshcrypt status says what the mesh lacks; once it names an arbiter, look whether it happened, else the same command again",
			"most of the voters have not answered in time: the change is not made yet, and may yet happen")
	}
	return control.Errorf(control.CodeDegraded, "run the same command again", "%v", err)
}

// view reads the registry at the leader.
func (n *Node) view(f func(*registry.State)) error {
	store := n.store.Load()
	if store == nil {
		return consensus.ErrNotLeader
	}
	store.View(f)
	return nil
}

func (n *Node) createToken(r *http.Request, in control.TokenRequest) (control.TokenCreated, error) {
	may := registry.RoleGateway | registry.RoleAgent
	if len(in.Roles) > 0 {
		var err error
		if may, err = registry.ParseRoles(in.Roles); err != nil {
			return control.TokenCreated{}, control.Errorf(control.CodeUsage, "meshcrypt token create --help", "%v", err)
		}
	}
	token, verify, err := pki.NewToken(rand.Reader, n.trust.CAHash)
	if err != nil {
		return control.TokenCreated{}, err
	}
	uses, ttl := max(1, in.Uses), in.TTL
	if ttl <= 0 {
		ttl = FirstTokenLife
	}
	_, err = n.propose(r.Context(), registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
		ID: token.ID, Verify: verify, May: may, Uses: uses, Expires: registry.Tick(max(1, ttl/time.Second)),
	}}})
	return control.TokenCreated{Schema: "meshcrypt.token/v1", Token: token.String()}, err
}

func (n *Node) listTokens(*http.Request, control.Nothing) (control.Tokens, error) {
	out := control.Tokens{Schema: "meshcrypt.tokens/v1", Tokens: []control.Token{}}
	err := n.view(func(s *registry.State) {
		for _, t := range s.Tokens {
			row := control.Token{ID: t.ID, Roles: t.May.Names(), Uses: t.Uses, State: "valid"}
			switch {
			case t.Revoked:
				row.State = "revoked"
			case s.Tick >= t.Expires:
				row.State = "expired"
			case t.Uses <= 0:
				row.State = "used"
			default:
				row.Left = time.Duration(t.Expires-s.Tick) * time.Second
			}
			out.Tokens = append(out.Tokens, row)
		}
	})
	slices.SortFunc(out.Tokens, func(x, y control.Token) int { return strings.Compare(x.ID, y.ID) })
	return out, err
}

func (n *Node) revokeToken(r *http.Request, in control.NameRequest) (control.Nothing, error) {
	_, err := n.propose(r.Context(), registry.Command{RevokeToken: &registry.RevokeToken{ID: in.Name}})
	return control.Nothing{}, err
}

func (n *Node) listClients(*http.Request, control.Nothing) (control.Clients, error) {
	out := control.Clients{Schema: "meshcrypt.clients/v1", Clients: []control.ClientRow{}}
	err := n.view(func(s *registry.State) {
		sessions := make(map[string]int)
		for _, live := range s.Sessions.Active() {
			sessions[live.Client]++
		}
		for _, c := range s.Clients.All() {
			row := control.ClientRow{Name: c.Name, State: "allowed", Group: c.Group, Login: loginOf(c), Prefixes: c.Prefixes, Sessions: sessions[c.Name]}
			if c.Revoked {
				row.State = "revoked"
			}
			out.Clients = append(out.Clients, row)
		}
	})
	slices.SortFunc(out.Clients, func(x, y control.ClientRow) int { return strings.Compare(x.Name, y.Name) })
	return out, err
}

// methodOf is how a client logs in.
func methodOf(c *registry.Client) string {
	switch {
	case c.Authority != "":
		return protocol.MethodCertificate
	case c.SharedKey != nil:
		return protocol.MethodSharedKey
	}
	return protocol.MethodPassword
}

// loginOf says how, and by whose certificates.
func loginOf(c *registry.Client) string {
	method := methodOf(c)
	if method == protocol.MethodCertificate {
		method += " of " + c.Authority
	}
	return method
}

func (n *Node) revokeClient(r *http.Request, in control.NameRequest) (control.Nothing, error) {
	_, err := n.propose(r.Context(), registry.Command{RevokeClient: &registry.RevokeClient{Name: in.Name}})
	return control.Nothing{}, err
}

// profileMethod is left out for a password, so that older clients read the profile.
func profileMethod(c *registry.Client) string {
	if method := methodOf(c); method != protocol.MethodPassword {
		return method
	}
	return ""
}

// clientProfile is the text a client connects with; it holds no secret.
func (n *Node) clientProfile(_ *http.Request, in control.NameRequest) (control.Profile, error) {
	profile := client.Profile{Cluster: n.self.Cluster, CAHash: n.trust.CAHash, User: in.Name}
	known := false
	err := n.view(func(s *registry.State) {
		if c := s.Clients.Get(in.Name); c != nil {
			known, profile.Method = true, profileMethod(c)
		}
		for _, node := range s.Members() {
			if node.Is&registry.RoleGateway != 0 {
				profile.Gateways = append(profile.Gateways, node.Outers()...)
			}
		}
		profile.Gateways = profile.Gateways[:min(len(profile.Gateways), client.MaxGateways)]
	})
	switch {
	case err != nil:
		return control.Profile{}, err
	case !known:
		return control.Profile{}, noClient(in.Name)
	}
	slices.SortFunc(profile.Gateways, netip.AddrPort.Compare)
	return control.Profile{Schema: "meshcrypt.profile/v1", Profile: profile.Text()}, nil
}
