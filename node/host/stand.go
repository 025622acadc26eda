package host

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stand is what is ours on the host: it puts it, looks whether it stands, puts
// back what others removed, and takes it away.
type stand struct {
	tun     string
	journal *journal
	log     *slog.Logger
	watch   watch

	mu            sync.Mutex // protects the fields below and every change of the host
	want          want
	fence, filter stance
	closed        bool
}

func newStand(tun string, j *journal, log *slog.Logger) *stand {
	s := &stand{tun: tun, journal: j, log: log}
	s.watch.init()
	return s
}

// become makes the host as w says. What it lacks is put first, what closes
// before what opens; then what is ours and no more wanted is removed. An error
// leaves what closes. The caller holds the lock.
func (s *stand) become(w want) error {
	before := s.want
	s.want = w
	now, err := s.look(w)
	if err != nil {
		return err
	}
	if w.up && now.device == 0 {
		_, err := device(w.tun)
		return err
	}
	if err := s.journal.change(journaled(w.settings)); err != nil {
		return err
	}
	for _, g := range w.lacks(now) {
		if err := s.put(g); err != nil {
			return err
		}
	}
	return s.sweep(before, w, now)
}

// put puts one thing.
func (s *stand) put(g thing) error {
	switch g.kind {
	case kindBlackhole, kindRoute:
		return s.putRoute(g.route)
	case kindFence:
		return s.fence.put(s.want.fence)
	case kindFilter:
		return s.filter.put(s.want.filter)
	case kindRule:
		return setRule(g.family, s.want.table, s.want.mark)
	case kindSysctl:
		return s.putSysctl(g.setting)
	}
	link, err := device(s.tun)
	if err != nil {
		return err
	}
	if g.kind == kindAddress {
		return addAddress(link, g.address)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return failed(err, "try `ip link set "+s.tun+" up`", "set %s up", s.tun)
	}
	return nil
}

// putRoute puts a route; a kernel without IPv6 sends none of it.
func (s *stand) putRoute(r route) error {
	err := addRoute(r.netlinkRoute(s.want.table))
	if r.prefix.Addr().Is6() && r.kind != unix.RTN_UNICAST && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
		return nil
	}
	return err
}

// putSysctl sets one; those of the TUN end with it and are not written down.
func (s *stand) putSysctl(one setting) error {
	if !one.passing {
		return s.journal.change([]setting{one})
	}
	if err := one.write(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// journaled are the settings that outlive us unless they are put back.
func journaled(settings []setting) []setting {
	return slices.DeleteFunc(slices.Clone(settings), func(one setting) bool { return one.passing })
}

// sweep removes what was ours before and is not wanted any more.
func (s *stand) sweep(before, w want, now seen) error {
	wanted := map[route]bool{}
	for _, r := range w.routes(now.device) {
		wanted[r] = true
	}
	errs := []error{sweepRoutes(w.table, func(r netlink.Route) bool {
		own, ok := parseRoute(r)
		return ok && wanted[own]
	})}
	if w.mark != 0 {
		errs = append(errs, sweepRules(w.table, w.mark))
	}
	for _, a := range before.addresses {
		if !slices.Contains(w.addresses, a) {
			errs = append(errs, s.dropAddress(a))
		}
	}
	return errors.Join(errs...)
}

// dropAddress takes an address from the TUN, with which it may have gone.
func (s *stand) dropAddress(a netip.Addr) error {
	link, err := device(s.tun)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	if err != nil {
		return err
	}
	return deleteAddress(link, a)
}

// leave ends the work and leaves what outlives a killed process, as it is.
func (s *stand) leave() {
	s.watch.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.filter.close()
}

// end ends the work and removes what is ours, unless keep is set: then what
// keeps traffic in stays. What opens goes first.
func (s *stand) end(keep bool) error {
	s.watch.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, a := range s.want.addresses {
		errs = append(errs, s.dropAddress(a))
	}
	s.filter.close()
	errs = append(errs, remove(s.journal.state.Role, s.want.table, keep))
	if keep {
		return errors.Join(append(errs, s.settle())...)
	}
	return s.journal.end(errors.Join(errs...))
}

// settle puts the settings back. The state file stays with what stays, for the Restore
// that removes it. One that cannot be written lists settings that are back: whoever reads
// it finds nothing to do.
func (s *stand) settle() error {
	if err := s.journal.restore(); err != nil {
		return err
	}
	if err := s.journal.store(); err != nil {
		s.log.Warn("the host's settings are back, but the file that remembers them could not be written anew", "error", err)
	}
	return nil
}

// remove takes what is ours from the host. Routes go before the filter: without
// it nothing may be forwarded.
func remove(r role, table int, keep bool) error {
	filter, fence := tableNode, tableNodeFence
	if r == roleClient {
		filter, fence = tableClient, tableClientFence
	}
	if keep {
		return errors.Join(sweepRoutes(table, isBlackhole), uninstall(filter))
	}
	var rules error
	if r == roleClient {
		rules = sweepRules(table, 0)
	}
	return errors.Join(rules, sweepRoutes(table, none), uninstall(filter), uninstall(fence))
}
