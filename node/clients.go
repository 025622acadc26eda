package node

import (
	"net/http"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// putClient adds a client, or changes what the request names of one. A change is
// made of what is there, so there is one at a time.
func (n *Node) putClient(r *http.Request, in control.ClientRequest) (control.Nothing, error) {
	if err := auth.CheckUser(in.Client.Name); err != nil {
		return control.Nothing{}, control.Errorf(control.CodeUsage, "choose another name", "%v", err)
	}
	n.editing.Lock()
	defer n.editing.Unlock()
	known, err := n.findClient(in.Client.Name)
	if err != nil {
		return control.Nothing{}, err
	}
	client := in.Client
	if in.Replace {
		client, err = changed(known, in)
	} else {
		err = mayAdd(known, in.Client.Name)
	}
	if err != nil {
		return control.Nothing{}, err
	}
	_, err = n.propose(r.Context(), registry.Command{PutClient: &registry.PutClient{Client: client, Replace: in.Replace}})
	return control.Nothing{}, err
}

// enableClient lets a revoked client in again, as it was. Its certificates stay
// revoked: each of them may be why.
func (n *Node) enableClient(r *http.Request, in control.NameRequest) (control.Nothing, error) {
	n.editing.Lock()
	defer n.editing.Unlock()
	known, err := n.findClient(in.Name)
	switch {
	case err != nil:
		return control.Nothing{}, err
	case known == nil:
		return control.Nothing{}, noClient(in.Name)
	case !known.Revoked:
		return control.Nothing{}, nil
	}
	_, err = n.propose(r.Context(), registry.Command{PutClient: &registry.PutClient{Client: *known}})
	return control.Nothing{}, err
}

// findClient is a copy of the registry's row, nil when there is none.
func (n *Node) findClient(name string) (found *registry.Client, err error) {
	err = n.view(func(s *registry.State) {
		if c := s.Clients.Get(name); c != nil {
			copied := *c
			copied.Prefixes = slices.Clone(c.Prefixes)
			found = &copied
		}
	})
	return found, err
}

func noClient(name string) error {
	return control.Errorf(control.CodeFailed, "meshcrypt client add "+name, "there is no client %q", name)
}

// mayAdd refuses a name that is taken: adding would be a change of all there is,
// and would let somebody in who was shut out.
func mayAdd(known *registry.Client, name string) error {
	switch {
	case known == nil:
		return nil
	case known.Revoked:
		return control.Errorf(control.CodeFailed, "meshcrypt client enable "+name, "%s is revoked", name)
	}
	return control.Errorf(control.CodeFailed,
		"meshcrypt client passwd "+name+" for a new password, meshcrypt client add "+name+" --replace with what else is to change",
		"there is a client %q already", name)
}

// changed is a client with what the request names in place of what it was.
func changed(known *registry.Client, in control.ClientRequest) (registry.Client, error) {
	name := in.Client.Name
	switch {
	case known == nil:
		return registry.Client{}, noClient(name)
	case known.Revoked:
		return registry.Client{}, control.Errorf(control.CodeFailed, "meshcrypt client enable "+name, "%s is revoked", name)
	case len(in.Change) == 0:
		return registry.Client{}, control.Errorf(control.CodeUsage, "name what is to change: meshcrypt client add --help", "nothing of %s is to change", name)
	}
	client := *known
	for _, what := range in.Change {
		switch what {
		case control.ChangePassword:
			if method := methodOf(known); method != protocol.MethodPassword {
				return client, control.Errorf(control.CodeFailed, "to have another login: meshcrypt client add "+name+" --replace --password-file FILE",
					"%s logs in by %s, not by password", name, loginOf(known))
			}
			client.PasswordKey = in.Client.PasswordKey
		case control.ChangeLogin:
			client.PasswordKey, client.SharedKey, client.Authority = in.Client.PasswordKey, in.Client.SharedKey, in.Client.Authority
		case control.ChangePrefixes:
			client.Prefixes = in.Client.Prefixes
		case control.ChangeBandwidth:
			client.Bandwidth = in.Client.Bandwidth
		default:
			return client, control.Errorf(control.CodeUsage, "meshcrypt client add --help", "a client has no %q to change", what)
		}
	}
	return client, nil
}
