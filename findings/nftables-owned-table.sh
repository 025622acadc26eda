#!/bin/sh
# google/nftables v0.3.0: the flags of a table are not sent, and read in the wrong
# byte order.
#
# The kernel knows tables that belong to a netlink socket (flag "owner", 2): a flush
# of the whole ruleset by others passes them over, and they end with the socket. The
# library has Table.Flags. Seen: a table that is added with the flag is an ordinary
# one, without any error, and `nft flush ruleset` takes it; a table that nft itself
# made with `flags dormant` (1) is listed by the library with Flags 16777216.
#
# Needs Go, nft and unshare, and the right to make namespaces. Installs the pinned
# module into a folder that it removes. Exit 0: still so; exit 1: otherwise now.
set -eu
[ "${1:-}" = inside ] || {
	work=$(mktemp -d)
	trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
	self=$(realpath "$0")
	cd "$work"
	cat >main.go <<'GO'
package main

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/nftables"
)

func nft(args ...string) string {
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		panic(fmt.Sprint(err, string(out)))
	}
	return string(out)
}

func main() {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		panic(err)
	}
	const owner = 2
	c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "mine", Flags: owner})
	if err := c.Flush(); err != nil {
		panic(err)
	}
	fmt.Println("owned by nft's account:", strings.Contains(nft("list", "tables"), "mine") && strings.Contains(nft("list", "ruleset"), "owner"))
	nft("flush", "ruleset")
	fmt.Println("outlived a flush:", strings.Contains(nft("list", "tables"), "mine"))
	nft("add", "table", "inet", "asleep", "{ flags dormant; }")
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		panic(err)
	}
	for _, t := range tables {
		fmt.Println("flags of", t.Name+":", t.Flags)
	}
}
GO
	export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
	go mod init finding >/dev/null 2>&1
	go get github.com/google/nftables@v0.3.0 >/dev/null 2>&1
	go build -o finding .
	unshare --user --map-root-user --net "$self" inside "$work/finding"
	exit
}
"$2" | tee "$2.seen"
[ "$(cat "$2.seen")" = "owned by nft's account: false
outlived a flush: false
flags of asleep: 16777216" ] || {
	echo "otherwise than seen"
	exit 1
}
