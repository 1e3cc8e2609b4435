package delivertest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Network is a network in memory, with names, addresses and connections but
// no sockets. Its Dial and itself fit deliver.SenderOptions as Dial and
// Resolver. Any address may be used, since none is ever reached. It works
// inside a testing/synctest bubble, if it was made there, and is safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	names     map[string]func() []netip.Addr
	listeners map[netip.AddrPort]*listener
	holes     map[netip.AddrPort]bool
	dialed    []netip.AddrPort
	buffered  bool
}

// NewNetwork makes an empty network.
func NewNetwork() *Network {
	return &Network{
		names:     map[string]func() []netip.Addr{},
		listeners: map[netip.AddrPort]*listener{},
		holes:     map[netip.AddrPort]bool{},
	}
}

// Name lets host resolve to addrs.
func (n *Network) Name(host string, addrs ...string) {
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	n.NameFunc(host, func() []netip.Addr { return list })
}

// NameFunc lets host resolve to what f returns each time it is asked.
func (n *Network) NameFunc(host string, f func() []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = f
}

// LookupNetIP is deliver.Resolver's.
func (n *Network) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	f := n.names[host]
	n.mu.Unlock()
	if f == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return f(), ctx.Err()
}

// Buffer lets connections take some bytes before they are read, as sockets do, from
// now on. Without it a write is one read at the other end, or several, and ends
// with it.
func (n *Network) Buffer() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buffered = true
}

// BlackHole lets connections to address hang until they are given up.
func (n *Network) BlackHole(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holes[netip.MustParseAddrPort(address)] = true
}

// Listen accepts connections to address, an IP address and port.
func (n *Network) Listen(address string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	ap := netip.MustParseAddrPort(address)
	l := &listener{addr: ap, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[ap] = l
	return l
}

// Dial connects to address, an IP address and port; where nobody listens it is
// refused.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	n.mu.Lock()
	n.dialed = append(n.dialed, ap)
	l, hole, room := n.listeners[ap], n.holes[ap], n.buffered
	n.mu.Unlock()
	if hole {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	if room {
		ours, theirs = bufferedPipe()
	}
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		err = syscall.ECONNREFUSED
	case <-ctx.Done():
		err = ctx.Err()
	}
	ours.Close() // nobody has them
	theirs.Close()
	return nil, &net.OpError{Op: "dial", Net: network, Err: err}
}

// Dialed lists every address that Dial was called with, in order.
func (n *Network) Dialed() []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialed)
}

type listener struct {
	addr   netip.AddrPort
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
