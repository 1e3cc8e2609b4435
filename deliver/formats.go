package deliver

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Formats are those that the endpoints of an installation can have: the built-in
// ones, and those of its configuration. A nil *Formats has the built-in ones. It is
// safe for concurrent use.
type Formats struct{ now atomic.Pointer[formatSet] }

// formatSet is the formats at one time. It does not change.
type formatSet struct {
	layouts map[string]*layout
	order   []string
}

var builtInFormats = func() *formatSet {
	fs := &formatSet{layouts: map[string]*layout{}}
	for _, f := range builtIn {
		fs.add(f)
	}
	return fs
}()

func (fs *formatSet) add(f Format) {
	fs.layouts[f.Name] = compile(f)
	fs.order = append(fs.order, f.Name)
}

// NewFormats has the built-in formats and the given ones. The error, a
// [*FormatError], is about the first of them that cannot be used, or whose name is
// taken.
func NewFormats(configured []Format) (*Formats, error) {
	fs := new(Formats)
	return fs, fs.Set(configured)
}

// Set makes these the configured formats, or with the errors of [NewFormats]
// changes nothing. Targets that were prepared before keep their format.
func (fs *Formats) Set(configured []Format) error {
	next, err := newFormatSet(configured)
	if err == nil {
		fs.now.Store(next)
	}
	return err
}

func newFormatSet(configured []Format) (*formatSet, error) {
	fs := &formatSet{layouts: map[string]*layout{}}
	for _, f := range builtIn {
		fs.add(f)
	}
	if len(configured) > MaxFormats {
		return nil, &FormatError{"", fmt.Sprintf("%d formats, want at most %d", len(configured), MaxFormats)}
	}
	for _, f := range configured {
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("format %s: %w", f.Name, err)
		}
		if fs.layouts[f.Name] != nil {
			return nil, fmt.Errorf("format %s: %w", f.Name, &FormatError{"", "there is one of this name already"})
		}
		f.Fields = slices.Clone(f.Fields)
		fs.add(f)
	}
	return fs, nil
}

// Names are those of all formats, the built-in ones first.
func (fs *Formats) Names() []string { return slices.Clone(fs.orBuiltIn().order) }

// Get is the format of that name; "" is the standard one.
func (fs *Formats) Get(name string) (Format, bool) {
	l := fs.layout(name)
	if l == nil {
		return Format{}, false
	}
	f := l.Format
	f.Fields = slices.Clone(f.Fields)
	return f, true
}

// Scheme is how requests in the format are signed; "" if there is none of that
// name.
func (fs *Formats) Scheme(name string) sign.Scheme {
	if l := fs.layout(name); l != nil {
		return l.Scheme
	}
	return ""
}

func (fs *Formats) orBuiltIn() *formatSet {
	if fs == nil {
		return builtInFormats
	}
	return fs.now.Load()
}

func (fs *Formats) layout(name string) *layout {
	if name == "" {
		name = FormatStandard
	}
	return fs.orBuiltIn().layouts[name]
}

// ErrFormat: an endpoint has a format that is not configured, or a secret that its
// format cannot sign with. Nothing may be sent to it.
var ErrFormat = errors.New("format cannot be used")

// CheckEndpoint reports whether requests can be made in the endpoint's format: it
// is there, the newest secret fits its scheme, and no header of the endpoint's own
// has a name that the format uses. The error is an [*OptionError]; the first two
// of them wrap [ErrFormat], too.
func (fs *Formats) CheckEndpoint(e *Endpoint) error {
	l := fs.layout(e.Format)
	if l == nil {
		return fmt.Errorf("%w: %w", ErrFormat, &OptionError{"format", fmt.Sprintf("there is no format %.100q", e.Format)})
	}
	if len(e.Secrets) > 0 && !l.Scheme.Fits(e.Secrets[0].Secret) {
		return fmt.Errorf("%w: %w", ErrFormat, &OptionError{"format", fmt.Sprintf("the format %s signs by %s, which the endpoint's secret does not fit: "+
			"give a secret for it in the same change, or first rotate to one that fits both formats (whsec_ fits all but ed25519)", l.Name, l.Scheme)})
	}
	for _, h := range e.Headers {
		if l.owns(h.Name) {
			return &OptionError{"headers." + h.Name, "cannot be set: requests in the format " + l.Name + " have it of themselves"}
		}
	}
	return nil
}
