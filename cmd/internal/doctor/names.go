package doctor

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Names is what was seen of the resolver.
type Names struct {
	Servers   int // that resolv.conf names
	ServerErr error
	Localhost []netip.Addr // of the name localhost, without asking any server
	Err       error
}

// SeeNames looks at the resolver's files. No server is asked.
func SeeNames(ctx context.Context) (n Names) {
	n.Servers, n.ServerErr = nameServers("/etc/resolv.conf")
	local := net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("it is not in /etc/hosts")
	}}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n.Localhost, n.Err = local.LookupNetIP(ctx, "ip", "localhost")
	return n
}

func nameServers(file string) (n int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "nameserver" {
			n++
		}
	}
	return n, nil
}

// Finding judges the resolver.
func (n Names) Finding() Finding {
	const check = "names"
	loopback := len(n.Localhost) > 0
	for _, a := range n.Localhost {
		loopback = loopback && a.Unmap().IsLoopback()
	}
	switch {
	case n.ServerErr != nil:
		return bad(check, Warn, "make /etc/resolv.conf name a server", "the resolver's configuration cannot be read: %v", n.ServerErr)
	case n.Servers == 0:
		return bad(check, Warn, "make /etc/resolv.conf name a server: receivers' names are looked up there", "no name server is configured")
	case n.Err != nil:
		return bad(check, Warn, "add 127.0.0.1 localhost to /etc/hosts", "localhost is not in /etc/hosts")
	case !loopback:
		return bad(check, Fail, "mend /etc/hosts: the addresses of localhost must be loopback", "localhost is another machine: %v", n.Localhost)
	}
	return good(check, "%d name servers; localhost is this machine (--resolve HOST asks for a name)", n.Servers)
}

// Lookup is what a name resolves to, and what the guard says of each address.
type Lookup struct {
	Host    string
	Refused []netip.Addr
	Allowed []netip.Addr
	Took    time.Duration
	Err     error
}

// Finding judges the lookup of a receiver's name.
func (l Lookup) Finding() Finding {
	const check = "name"
	took := l.Took.Round(time.Millisecond)
	switch {
	case l.Err != nil:
		return bad(check, Fail, "look at the resolver, or at the name", "%s cannot be looked up: %v", l.Host, l.Err)
	case len(l.Allowed) == 0:
		return bad(check, Fail, "deliveries to it are refused: allow its network with --allow-network, if it is meant", "%s is %v, where deliveries may not go", l.Host, l.Refused)
	case len(l.Refused) > 0:
		return bad(check, Warn, "some attempts will be refused: mend the name, or allow the network", "%s is %v, but also %v, where deliveries may not go", l.Host, l.Allowed, l.Refused)
	}
	return good(check, "%s is %v, found in %v", l.Host, l.Allowed, took)
}
