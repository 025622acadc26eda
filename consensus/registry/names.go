package registry

import (
	"net/netip"
	"regexp"
)

// maxDomain is the longest domain name, in text (RFC 1035, 2.3.4).
const maxDomain = 253

func checkNames(servers []netip.Addr, search []string) *Error {
	if len(servers) > MaxDNS || len(search) > MaxSearch {
		return ErrInvalid.with("%d DNS servers and %d search domains, at most %d and %d", len(servers), len(search), MaxDNS, MaxSearch)
	}
	for _, s := range servers {
		if !s.IsValid() || s.IsUnspecified() || s.Zone() != "" {
			return ErrInvalid.with("DNS server %q", s)
		}
	}
	for _, domain := range search {
		if len(domain) > maxDomain || !domainForm.MatchString(domain) {
			return ErrInvalid.with("search domain %q", domain)
		}
	}
	return nil
}

// domainForm is labels of letters, digits and hyphens between dots.
var domainForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$`)
