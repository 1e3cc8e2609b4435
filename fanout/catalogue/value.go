package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Limits of a number that is compared with others: beyond them, exact
// arithmetic gets expensive.
const (
	maxNumber   = 400 // characters
	maxExponent = 400
)

// parse reads data, which must be valid JSON and not too deep, with its numbers
// as they are written. It refuses what cannot be judged.
func parse(data []byte) (any, *Mismatch) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("there is more than one value")
		}
	}
	if err != nil {
		return nil, &Mismatch{Code: CodeSchema, What: "cannot be read: " + clip(err.Error(), 100)}
	}
	members, wrong := survey(v, nil)
	if wrong != nil {
		return nil, wrong
	}
	if members != colons(data) {
		path := twice(data)
		return nil, &Mismatch{Code: CodeSchema, Path: path, What: "is named twice in its object: parsers differ in which of them counts"}
	}
	return v, nil
}

// survey counts the members of all objects in v, and finds a number that is too
// large to be judged.
func survey(v any, path []string) (members int, wrong *Mismatch) {
	switch v := v.(type) {
	case map[string]any:
		members = len(v)
		for name, value := range v {
			n, wrong := survey(value, append(path, name))
			if wrong != nil {
				return 0, wrong
			}
			members += n
		}
	case []any:
		for i, value := range v {
			switch value.(type) {
			case string, bool, nil:
				continue
			}
			n, wrong := survey(value, append(path, strconv.Itoa(i)))
			if wrong != nil {
				return 0, wrong
			}
			members += n
		}
	case json.Number:
		if !comparable(string(v)) {
			return 0, &Mismatch{Code: CodeSchema, Path: slices.Clone(path),
				What: fmt.Sprintf("is a number of more than %d characters or beyond 10^±%d, and cannot be checked", maxNumber, maxExponent)}
		}
	}
	return members, nil
}

// comparable reports whether a JSON number is within the limits.
func comparable(number string) bool {
	if len(number) > maxNumber {
		return false
	}
	i := strings.IndexAny(number, "eE")
	if i < 0 {
		return true
	}
	exponent, err := strconv.Atoi(number[i+1:])
	return err == nil && -maxExponent <= exponent && exponent <= maxExponent
}

// colons counts those outside of strings: one for each member that data, which
// must be valid JSON, names.
func colons(data []byte) (n int) {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case ':':
			n++
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		}
	}
	return n
}

// twice is the path of the first member that its object named before; data is
// valid JSON that has one.
func twice(data []byte) []string {
	type level struct {
		names map[string]bool // nil: an array
		index int
		name  string
		value bool // the next token of an object is a value
	}
	var levels []*level
	path := func() (p []string) {
		for _, l := range levels {
			if l.names == nil {
				p = append(p, strconv.Itoa(l.index))
			} else {
				p = append(p, l.name)
			}
		}
		return p
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return nil
		}
		var top *level
		if len(levels) > 0 {
			top = levels[len(levels)-1]
		}
		delim, _ := token.(json.Delim)
		if delim == '}' || delim == ']' {
			levels = levels[:len(levels)-1]
			continue
		}
		switch {
		case top == nil:
		case top.names == nil:
			top.index++
		case !top.value:
			top.name, _ = token.(string)
			if top.names[top.name] {
				return path()
			}
			top.names[top.name], top.value = true, true
			continue
		default:
			top.value = false
		}
		switch delim {
		case '{':
			levels = append(levels, &level{names: map[string]bool{}})
		case '[':
			levels = append(levels, &level{index: -1})
		}
	}
}

// canonical appends v in a form that is the same for values that JSON Schema
// calls equal, and for no others: members are sorted, 1 and 1.0 are one number,
// and lengths keep neighbours apart.
func canonical(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, 'n')
	case bool:
		if v {
			return append(dst, 't')
		}
		return append(dst, 'f')
	case string:
		return canonicalText(dst, 's', v)
	case json.Number:
		return canonicalText(dst, 'd', canonicalNumber(string(v)))
	case []any:
		dst = append(strconv.AppendInt(append(dst, 'a'), int64(len(v)), 10), ':')
		for _, item := range v {
			dst = canonical(dst, item)
		}
		return dst
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		dst = append(strconv.AppendInt(append(dst, 'o'), int64(len(v)), 10), ':')
		for _, name := range names {
			dst = canonical(canonicalText(dst, 's', name), v[name])
		}
		return dst
	}
	return append(dst, '?') // parse makes nothing else
}

func canonicalText(dst []byte, kind byte, s string) []byte {
	dst = append(strconv.AppendInt(append(dst, kind), int64(len(s)), 10), ':')
	return append(dst, s...)
}

func canonicalNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") && s != "-0" {
		return s // JSON has one way only to write an integer in digits
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return s
	}
	return r.RatString()
}
