package main

import (
	"net/netip"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/proxy"
)

// proxyFlags are how programs enter a tunnel that is not routed.
type proxyFlags struct {
	listen, authFile string
	instead          bool // no rights for a TUN, and none was asked for
}

func (f *proxyFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.listen, "proxy", "", "no TUN and no routes: offer the tunnel as SOCKS5 and HTTP proxy here (without root: "+DefaultProxy+")")
	flags.StringVar(&f.authFile, "proxy-auth-file", "", "file with user:password that programs must give to the proxy")
}

// config is nil where the host's own stack leads into the tunnel.
func (f proxyFlags) config() (*node.ProxyConfig, error) {
	switch {
	case f.listen == "" && !f.instead:
		return nil, nil
	case f.listen == "":
		f.listen = DefaultProxy
	}
	listen, err := netip.ParseAddrPort(f.listen)
	if err != nil || listen.Port() == 0 {
		return nil, usage("--proxy "+DefaultProxy, "--proxy %q is no IP address and port", f.listen)
	}
	config := &node.ProxyConfig{Listen: listen}
	if f.authFile == "" {
		if !listen.Addr().IsLoopback() {
			return nil, usage("--proxy-auth-file FILE with user:password, or --proxy "+DefaultProxy,
				"--proxy %s: everybody who reaches that address could use the tunnel", listen)
		}
		return config, nil
	}
	text, err := readFile(f.authFile, MaxSecret)
	if err == nil {
		config.Credentials, err = proxy.ParseCredentials(string(text))
	}
	if err != nil {
		return nil, usage("write user:password into it", "--proxy-auth-file %s: %v", f.authFile, err)
	}
	return config, nil
}

// hasNetAdmin reports whether this process may make a TUN and routes.
func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // two, for version 3 has 64 bits
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}
