package registry

import (
	"encoding/json"
	"errors"
	"fmt"
)

// CommandVersion is the newest version of the command codec this build reads.
// A build that adds a command or changes one's meaning raises it. A command is
// written in the oldest version that says all of it, so that replicas of an older
// build go on until something comes that they would not understand.
const CommandVersion = 7

const commandMagic = "mcrc"

// Why a log entry is no command of ours.
var (
	// ErrNewer is a well-formed command that only a newer build knows. A replica
	// that skipped it would no longer hold the same state as the others.
	ErrNewer = errors.New("registry: command of a newer version")
	// ErrMalformed is an entry that no version would take for a command.
	ErrMalformed = errors.New("registry: malformed command")
)

// EncodeCommand writes a command as it stands in the log: magic, version, JSON.
func EncodeCommand(c Command) ([]byte, error) {
	if c.ID == (CommandID{}) {
		return nil, fmt.Errorf("%w: no id", ErrMalformed)
	}
	if _, err := c.only(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, err.Detail)
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	raw := append([]byte(commandMagic), c.version())
	raw = append(raw, body...)
	if len(raw) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(raw), MaxCommand)
	}
	return raw, nil
}

// version is the oldest one that says all of a command. Version 7 knows incarnations that
// leave out epochs, which stand in no log but in snapshots. Version 6 knows resumptions that
// grant slices, which others would forget. Version 5 knows many marks in
// one command, and meshes with room for more. Version 4 knows nodes whose
// inside interface strangers reach, devices, who holds SAs of a session that is over,
// how many sessions a client may have, and a policy over a named version. Version 3
// knows the suites
// and modes of a policy, shares, weights that change, UDP that may be sprayed, peers,
// certificates and pre-shared keys: a replica that dropped them would admit what it
// must not; and what has both families. Version 2 knows the recovery key, and takes
// a policy without headless time for one that follows the count of voters; version 1
// wrote DefaultHeadless into it.
func (c Command) version() byte {
	switch {
	case c.Reincarnate != nil && c.Reincarnate.Epochs > 0:
		return 7
	case c.ResumeKey != nil && len(c.ResumeKey.Slices) > 0:
		return 6
	case c.MarkSlices != nil, c.Enlarge != nil:
		return 5
	case c.JoinNode != nil && c.JoinNode.Node.Exposed, c.UpdateNode != nil && c.UpdateNode.Exposed,
		c.Found != nil && c.Found.Founder.Exposed,
		c.Acknowledge != nil,
		c.OpenSession != nil && (c.OpenSession.Track || c.OpenSession.Session.newest()),
		c.PutPolicy != nil && (c.PutPolicy.Over != 0 || c.PutPolicy.Policy.Sessions != 0),
		c.Found != nil && c.Found.Policy.Sessions != 0:
		return 4
	case c.dual(),
		c.Found != nil && c.Found.Policy.newer(), c.PutPolicy != nil && c.PutPolicy.Policy.newer(),
		c.PutClient != nil && c.PutClient.Client.newer(), c.OpenSession != nil && c.OpenSession.Session.newer(),
		c.PutAuthority != nil, c.RevokeAuthority != nil, c.PutCertificate != nil, c.WeighSlices != nil:
		return 3
	case c.CountVoters != nil,
		c.Found != nil && (len(c.Found.Cluster.Recovery) > 0 || c.Found.Policy.Headless == 0),
		c.PutPolicy != nil && c.PutPolicy.Policy.Headless == 0,
		c.PutSecrets != nil && len(c.PutSecrets.Recovery) > 0:
		return 2
	}
	return 1
}

// dual reports whether something that a command says has both families.
func (c Command) dual() bool {
	return c.Found != nil && c.Found.dual() ||
		c.JoinNode != nil && c.JoinNode.Node.Other.IsValid() ||
		c.UpdateNode != nil && c.UpdateNode.Other.IsValid()
}

// DecodeCommand reads a log entry. Unknown fields are ignored. Every error
// matches ErrUnknown; ErrNewer or ErrMalformed says which kind it is.
func DecodeCommand(raw []byte) (Command, error) {
	const header = len(commandMagic) + 1
	if len(raw) < header || len(raw) > MaxCommand || string(raw[:len(commandMagic)]) != commandMagic || raw[header-1] == 0 {
		return Command{}, fmt.Errorf("%w: %w: %d bytes without our mark", ErrUnknown, ErrMalformed, len(raw))
	}
	if v := raw[header-1]; v > CommandVersion {
		return Command{}, fmt.Errorf("%w: %w: version %d, known is %d", ErrUnknown, ErrNewer, v, CommandVersion)
	}
	var c Command
	if err := json.Unmarshal(raw[header:], &c); err != nil {
		return Command{}, fmt.Errorf("%w: %w: %w", ErrUnknown, ErrMalformed, err)
	}
	switch set := len(c.changes()); {
	case set == 0:
		return Command{}, unknownChange(raw[header:])
	case set > 1 || c.ID == (CommandID{}):
		return Command{}, fmt.Errorf("%w: %w: %d changes, id %s", ErrUnknown, ErrMalformed, set, c.ID)
	}
	if raw[header-1] == 1 {
		c.upgrade()
	}
	return c, nil
}

// upgrade makes a command of version 1 say what it meant: a policy without
// headless time had the default.
func (c Command) upgrade() {
	switch {
	case c.Found != nil && c.Found.Policy.Headless == 0:
		c.Found.Policy.Headless = DefaultHeadless
	case c.PutPolicy != nil && c.PutPolicy.Policy.Headless == 0:
		c.PutPolicy.Policy.Headless = DefaultHeadless
	}
}

// unknownChange tells a command that this build does not know from an empty one.
func unknownChange(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return fmt.Errorf("%w: %w: %w", ErrUnknown, ErrMalformed, err)
	}
	for name, value := range fields {
		if name != "id" && len(value) > 0 && value[0] == '{' {
			return fmt.Errorf("%w: %w: change %q", ErrUnknown, ErrNewer, clip(name))
		}
	}
	return fmt.Errorf("%w: %w: no change", ErrUnknown, ErrMalformed)
}
