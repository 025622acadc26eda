package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// schema names the format of the state file.
const schema = "meshcrypt.host/v1"

// role tells whose leftovers a state file speaks of.
type role string

const (
	roleNode   role = "node"
	roleClient role = "client"
)

// journal is the state file: what the host was like before. It is on disk
// before anything changes and removed after everything is back.
type journal struct {
	path  string
	state journalState
	kept  []byte // what the file holds; nil: nothing, or unknown
}

type journalState struct {
	Schema string `json:"schema"`
	// Boot is the kernel's boot id. Sysctls written down in an earlier boot
	// are void: the boot has set them anew.
	Boot    string  `json:"boot"`
	Role    role    `json:"role"`
	Table   int     `json:"table"` // the routing table holding our routes
	Changed []saved `json:"changed"`
	// Closing is set after an end that the client's user did not ask for.
	Closing *closing `json:"closing,omitempty"`
}

// saved is one sysctl in the order of change.
type saved struct {
	Name     string `json:"name"`
	Original string `json:"original"`
	Set      string `json:"set"`
}

// openJournal starts a journal, taking over the originals that a killed
// process left in it.
func openJournal(path string, r role, table int) (*journal, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, state: journalState{Schema: schema, Boot: boot, Role: r, Table: table}}
	old, err := readJournal(path)
	if err != nil {
		return nil, err
	}
	if old != nil && old.Role != r {
		return nil, fmt.Errorf("%w: state file %s is of a %s, not of a %s; "+
			"use another data directory", ErrConfig, path, old.Role, r)
	}
	if old != nil && old.Boot == boot {
		j.state.Changed = old.Changed
		j.kept, _ = old.encode() // of what was decoded
	}
	return j, j.store()
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", failed(err, "mount /proc", "read the boot id")
	}
	return strings.TrimSpace(string(b)), nil
}

// readJournal returns nil when there is no state file.
func readJournal(path string) (*journalState, error) {
	next := "look at it, and remove it if it is of no use"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(err, next, "read the state file %s", path)
	}
	if info.Size() > maxJournal {
		return nil, fmt.Errorf("%w: %s has %d bytes; %s", ErrDamaged, path, info.Size(), next)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, failed(err, next, "read the state file %s", path)
	}
	state, err := parseJournal(b)
	if err != nil {
		return nil, fmt.Errorf("%w; file %s, %s", err, path, next)
	}
	return state, nil
}

func parseJournal(b []byte) (*journalState, error) {
	var state journalState
	if err := json.Unmarshal(b, &state); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if state.Schema != schema || (state.Role != roleNode && state.Role != roleClient) ||
		len(state.Changed) > maxSettings {
		return nil, fmt.Errorf("%w: it is of schema %q, role %q", ErrDamaged, state.Schema, state.Role)
	}
	for _, s := range state.Changed {
		if !filepath.IsLocal(s.Name) {
			return nil, fmt.Errorf("%w: it names sysctl %q", ErrDamaged, s.Name)
		}
	}
	return &state, nil
}

// encode is the file's content.
func (s journalState) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "\t")
	return append(b, '\n'), err
}

// store replaces the file in one step, unless it says so already: a full disk has no room
// for another one.
func (j *journal) store() error {
	b, err := j.state.encode()
	if err == nil && bytes.Equal(b, j.kept) {
		return nil
	}
	if err == nil {
		err = replaceFile(j.path, b)
	}
	if err != nil {
		return failed(err, "check that the data directory exists and has room", "write %s", j.path)
	}
	j.kept = b
	return nil
}

func replaceFile(path string, b []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// change writes down the present values, then sets the new ones.
func (j *journal) change(settings []setting) error {
	known := map[string]int{}
	for i, s := range j.state.Changed {
		known[s.Name] = i
	}
	var todo []setting
	for _, s := range settings {
		now, err := readSysctl(s.name)
		if err != nil {
			return failed(err, "see `sysctl -a`", "read net/%s", s.name)
		}
		i, ours := known[s.name]
		switch {
		case ours:
			j.state.Changed[i].Set = s.value
		case now == s.value && !s.pinned:
			continue // as we want it without us, nothing to restore
		default:
			j.state.Changed = append(j.state.Changed, saved{s.name, now, s.value})
		}
		todo = append(todo, s)
	}
	if len(j.state.Changed) > maxSettings {
		return fmt.Errorf("%w: %d sysctls to change, at most %d", ErrConfig, len(j.state.Changed), maxSettings)
	}
	if len(todo) == 0 {
		return nil
	}
	if err := j.store(); err != nil {
		return err
	}
	for _, one := range todo {
		if err := one.write(); err != nil {
			return err
		}
	}
	return nil
}

// restore puts everything back, last change first. What someone else has
// changed since stays; what has gone is forgotten. Values are
// compared before the first write, since one write can change other settings.
func (j *journal) restore() error {
	current := map[string]string{}
	for _, s := range j.state.Changed {
		if now, err := readSysctl(s.Name); err == nil {
			current[s.Name] = now
		}
	}
	var errs []error
	for _, s := range slices.Backward(j.state.Changed) {
		now, there := current[s.Name]
		if !there || (now != s.Set && now != s.Original) {
			continue
		}
		err := setting{name: s.Name, value: s.Original}.write()
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	j.state.Changed = nil
	return nil
}

// remove ends the journal: nothing of ours is left on the host.
func (j *journal) remove() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err, "remove it by hand", "remove the state file %s", j.path)
	}
	return nil
}

// end restores the settings, and removes the file if everything else of ours
// is gone too (removed is nil); else a later Restore tries again.
func (j *journal) end(removed error) error {
	err := j.restore()
	switch {
	case err != nil:
	case removed == nil:
		return j.remove()
	default:
		err = j.store()
	}
	return errors.Join(removed, err)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
