package main

import (
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// suites reads a list of cipher suites, each named once.
func suites(flag string, names []string) (list []esp.Suite, err error) {
	for _, name := range names {
		s, err := esp.ParseSuite(name)
		if err != nil {
			return nil, usage(flag+" "+suiteNames(), "%s: there is no cipher suite %q", flag, name)
		}
		if slices.Contains(list, s) {
			return nil, usage(flag+" "+suiteNames(), "%s names %v twice", flag, s)
		}
		list = append(list, s)
	}
	return list, nil
}

// suiteNames lists what --suite and --suites take.
func suiteNames() string {
	var names []string
	for _, s := range esp.Suites() {
		names = append(names, strings.ToLower(s.String()))
	}
	return strings.Join(names, ",")
}
