package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tableRule sends all packets without the mark to the client's table first.
func tableRule(family, table, mark int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Table, r.Priority = family, table, DefaultPriority
	r.Mark, r.Invert = uint32(mark), true
	r.Protocol = Protocol
	return r
}

// setRule puts our rule of one family.
func setRule(family, table, mark int) error {
	err := netlink.RuleAdd(tableRule(family, table, mark))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return failed(err, "see `ip rule`", "add the rule for table %d", table)
	}
	return nil
}

func hasRule(rules []netlink.Rule, want *netlink.Rule) bool {
	for _, r := range rules {
		if r.Family == want.Family && r.Mark == want.Mark && r.Invert && r.Priority == want.Priority {
			return true
		}
	}
	return false
}

// ourRules lists the rules with our protocol number that lead to table.
func ourRules(table int) (ours []netlink.Rule, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RuleList(family)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, failed(err, "see `ip rule`", "list the rules")
		}
		for _, r := range all {
			if r.Protocol == Protocol && r.Table == table {
				r.Family = family
				ours = append(ours, r)
			}
		}
	}
	return ours, nil
}

// sweepRules deletes our rules for a table but the one with the mark, which is
// 0 for none.
func sweepRules(table, mark int) error {
	rules, err := ourRules(table)
	errs := []error{err}
	for _, r := range rules {
		if mark == 0 || r.Mark != uint32(mark) || !r.Invert || r.Priority != DefaultPriority {
			errs = append(errs, deleteRule(r))
		}
	}
	return errors.Join(errs...)
}

func deleteRule(r netlink.Rule) error {
	if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
		return failed(err, fmt.Sprintf("try `ip rule delete pref %d`", r.Priority),
			"delete the rule for table %d", r.Table)
	}
	return nil
}
